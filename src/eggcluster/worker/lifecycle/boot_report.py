"""Reports about a boot: why it failed, and where its time went. Runs in agent and app workers."""

import sys
import time
import traceback
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType, TracebackType
from typing import Any

from eggcluster.errors import BootError, OptionsError
from eggcluster.kernel.stacks import is_machinery
from eggcluster.wording import printable

NO_SUBINTERPRETERS = "does not support loading in subinterpreters"  # CPython's own words


def describe_failure(error: BaseException) -> str:
    """Return the exception and the frames of its traceback that lie in the application, as text.

    The first line stands alone: `ModuleNotFoundError: No module named 'x'`.
    """
    return printable(_describe(error))


def _describe(error: BaseException) -> str:
    if isinstance(error, (OptionsError, BootError)):
        return str(error)
    described = traceback.TracebackException.from_exception(error)
    _strip(described)
    lines = list(described.format())
    # A syntax error shows its place first, indented; of a message with several lines, the first one is the summary.
    if isinstance(error, ImportError) and NO_SUBINTERPRETERS in str(error):
        name = error.name or str(error).removeprefix("module ").partition(" ")[0]
        return f"{name} cannot be loaded in a subinterpreter; use --start-mode process\n{''.join(lines)}"
    summary = next(part for part in described.format_exception_only() if not part.startswith(" ")).splitlines()[0]
    return f"{summary}\n{''.join(lines)}".rstrip()


def _strip(described: traceback.TracebackException) -> None:
    """Remove our own frames and the import system's, in its causes and grouped exceptions, too."""
    described.stack = traceback.StackSummary.from_list(
        [frame for frame in described.stack if not is_machinery(frame.filename)]
    )
    for inner in (described.__cause__, described.__context__, *(described.exceptions or ())):
        if inner is not None:
            _strip(inner)


MAX_PACKAGES = 10  # in the line; the others take little time


class BootTimes:
    """The steps of one boot. Each lasts from the end of the one before; the first from `began` (CLOCK_MONOTONIC)."""

    def __init__(self, began: float) -> None:
        self._began = self._last = began
        self._steps: list[str] = []

    def done(self, step: str, details: str = "", until: float | None = None) -> None:
        """Record that `step` ends now, or ended at the instant `until`."""
        now = time.monotonic() if until is None else until
        self._steps.append(f"{step} {(now - self._last) * 1000:.0f}ms{details and f' ({details})'}")
        self._last = now

    def __str__(self) -> str:
        return f"booted in {(self._last - self._began) * 1000:.0f}ms: {', '.join(self._steps)}"


class ImportTimes:
    """Measures, within its `with` block, how long each top-level package runs while it is imported. Its submodules
    count, other packages that it imports do not."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    def slowest(self) -> str:
        """Return the slowest packages: `pydantic 180ms, fastapi 62ms, ...`."""
        ranked = sorted(self._seconds.items(), key=lambda entry: -entry[1])[:MAX_PACKAGES]
        return ", ".join(f"{name} {seconds * 1000:.0f}ms" for name, seconds in ranked)

    def __enter__(self) -> "ImportTimes":
        self._since = self._clock()
        sys.meta_path.insert(0, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return what the other finders find, with its execution measured."""
        for finder in [*sys.meta_path]:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                self._observe(spec)
                return spec
        return None

    def _observe(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        if loader is None or isinstance(loader, type) or not hasattr(loader, "__dict__"):
            return  # built-in and frozen modules have a class as their loader; they cost nothing
        execute, package = loader.exec_module, spec.name.partition(".")[0]

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # restore the loader's own
            self._switch_to(package)
            try:
                execute(module)
            finally:
                self._switch_back()

        loader.exec_module = exec_module

    def _switch_to(self, package: str) -> None:
        self._charge()
        self._running.append(package)

    def _switch_back(self) -> None:
        self._charge()
        self._running.pop()

    def _charge(self) -> None:
        now = self._clock()
        if self._running:
            package = self._running[-1]
            self._seconds[package] = self._seconds.get(package, 0.0) + now - self._since
        self._since = now
