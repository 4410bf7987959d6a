"""Notes where threads are started while a module is imported, for the line that names them. Runs in templates."""

import os
import sys
import sysconfig
import threading
from types import TracebackType
from weakref import WeakKeyDictionary

_STDLIB = sysconfig.get_path("stdlib") + os.sep
_PACKAGES = (sysconfig.get_path("purelib") + os.sep, sysconfig.get_path("platlib") + os.sep)


class ThreadStarts:
    """Notes, within its `with` block, where each thread is started: in the application if it is, else in a package."""

    def __init__(self) -> None:
        self._places: WeakKeyDictionary[threading.Thread, str] = WeakKeyDictionary()
        self._start = threading.Thread.start

    def place(self, thread: threading.Thread) -> str:
        """Return ` (started at FILE:LINE)`; "" if that is unknown."""
        place = self._places.get(thread)
        return f" (started at {place})" if place else ""

    def __enter__(self) -> "ThreadStarts":
        start, places = self._start, self._places

        def noted(thread: threading.Thread) -> None:
            places[thread] = _caller()
            start(thread)

        threading.Thread.start = noted  # type: ignore[assignment, method-assign]  # until the import is done
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        threading.Thread.start = self._start  # type: ignore[method-assign]


def _caller() -> str:
    """Return FILE:LINE of the nearest calling frame in the application; without one, in a package."""
    in_package = ""
    frame = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_PACKAGES):
            in_package = in_package or f"{path}:{frame.f_lineno}"
        elif not path.startswith((_STDLIB, "<", _OURS)):
            return f"{path}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return in_package


_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
