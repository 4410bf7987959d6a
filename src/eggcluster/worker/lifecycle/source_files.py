"""The files that a worker's code came from, and that another try would read. Runs in agent and app workers."""

import asyncio
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import eggcluster
from eggcluster.kernel.file_stamps import Stamp, stamp_of

MAX_FILES = 5000  # some hundred bytes each; of more files only these are compared
REPORT_INTERVAL = 1.0  # seconds between two looks for modules that were imported meanwhile
ENV_FILE = ".env"  # in the base directory: what python-dotenv and its like read

_STANDARD = sysconfig.get_path("stdlib") + os.sep
_PACKAGES = (sysconfig.get_path("purelib") + os.sep, sysconfig.get_path("platlib") + os.sep)
_OURS = os.path.dirname(eggcluster.__file__ or "") + os.sep


def source_files() -> list[Stamp]:
    """Return the stamp of each file that a module was loaded from. Files of the standard library and of eggcluster are
    left out: a reload does not renew those in the master either."""
    files = [path for path in _module_files() if not _is_standard(path)]
    return [stamp_of(path) for path in files[:MAX_FILES]]


def own_sources(base_dir: str) -> list[Stamp]:
    """Return the same for the application's own files, without those of installed packages, and with the `.env` file of
    the base directory, be it there or not."""
    files = [path for path in _module_files() if _is_own(path)]
    return [stamp_of(path) for path in [os.path.join(base_dir, ENV_FILE), *files][:MAX_FILES]]


def sources_of_failure(base_dir: str, error: BaseException) -> list[Stamp]:
    """Return those that an import has read, or has not found, until it failed. A module that raised is none of the
    loaded ones any more."""
    read = {path for path in _files_of(error) if os.path.isabs(path) and _is_own(path)}
    return [*own_sources(base_dir), *map(stamp_of, sorted(read))]


def _module_files() -> Iterator[str]:
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str):
            yield path


def _is_standard(path: str) -> bool:
    return path.startswith(_OURS) or (path.startswith(_STANDARD) and not path.startswith(_PACKAGES))


def _is_own(path: str) -> bool:
    return not (path.startswith((_OURS, _STANDARD, *_PACKAGES)) or f"{os.sep}site-packages{os.sep}" in path)


def _files_of(error: BaseException | None) -> Iterator[str]:
    """Yield the files in an exception's traceback, the one that is no Python, and those that would be the module that
    was not found; then those of its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield from (frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
        if isinstance(error, SyntaxError) and error.filename:
            yield error.filename
        if isinstance(error, ImportError):
            yield from _wanted_files(error)
        error = error.__cause__ or error.__context__


def _wanted_files(error: ImportError) -> Iterator[str]:
    places, name = sys.path, error.name if isinstance(error, ModuleNotFoundError) else None
    if name is None and error.path and (name := getattr(error, "name_from", None)):  # Python 3.12 and later
        places = [os.path.dirname(error.path)]
    for place in places if name else ():
        path = os.path.join(place, *str(name).split("."))
        yield from (f"{path}.py", os.path.join(path, "__init__.py"))


class SourceReporter:
    """Reports the application's own files from `start` on, for as long as the loop runs: those that are imported later,
    too. `report` gets the action and the details."""

    def __init__(self, base_dir: str, report: Callable[[str, dict[str, Any]], None]) -> None:
        self._base_dir = base_dir
        self._report = report
        self._modules = 0
        self._reported: set[str] = set()

    def start(self) -> None:
        """Report what has been imported so far."""
        if len(sys.modules) != self._modules:
            self._modules = len(sys.modules)
            self._report_new()
        asyncio.get_running_loop().call_later(REPORT_INTERVAL, self.start)

    def _report_new(self) -> None:
        new = [stamp for stamp in own_sources(self._base_dir) if stamp[0] not in self._reported]
        if new:
            self._reported.update(stamp[0] for stamp in new)
            self._report("sources", {"sources": new})
