"""Threads that nobody waits for. Runs anywhere."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any


def accept_daemons() -> None:
    """In a subinterpreter, which refuses daemon threads: give libraries that ask for one an ordinary thread. They are
    joined at the interpreter's end, which is theirs, too."""
    init = threading.Thread.__init__

    def ordinary(self: threading.Thread, *args: Any, daemon: bool | None = None, **kwargs: Any) -> None:
        init(self, *args, daemon=False, **kwargs)

    threading.Thread.__init__ = ordinary  # type: ignore[method-assign]  # in this interpreter, which is a worker's own
    threading.Thread.daemon = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]


def start_daemon(target: Callable[..., Any], *args: Any, name: str) -> threading.Thread:
    """Start a thread that does not hold up the end of the process. A subinterpreter has no such threads: there its end
    waits for this one, too, so whoever starts it should tell it when it is over."""
    thread = threading.Thread(target=target, args=args, name=name)
    with contextlib.suppress(RuntimeError):
        thread.daemon = True
    thread.start()
    return thread
