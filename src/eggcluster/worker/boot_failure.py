"""The report of a boot that failed: what a person needs to mend it, and nothing of our own machinery."""

import asyncio
import importlib
import os
import traceback

import eggcluster
from eggcluster.errors import BootError, OptionsError
from eggcluster.ipc.frame import printable

# Ours, the import system's (its frozen part and its files), and what starts a module or a loop.
_MACHINERY = (
    "<frozen runpy>",
    asyncio.runners.__file__,
    os.path.dirname(eggcluster.__file__ or "") + os.sep,
    "<frozen importlib",
    os.path.dirname(importlib.__file__) + os.sep,
)

NO_SUBINTERPRETERS = "does not support loading in subinterpreters"  # CPython's own words


def describe_failure(error: BaseException) -> str:
    """The exception and the frames of its traceback that lie in the application, as text.

    The first line stands alone: `ModuleNotFoundError: No module named 'x'`.
    """
    return printable(_describe(error))


def _describe(error: BaseException) -> str:
    if isinstance(error, (OptionsError, BootError)):
        return str(error)
    described = traceback.TracebackException.from_exception(error)
    _strip(described)
    lines = list(described.format())
    # A syntax error is shown with its place first, indented; a text of several lines has its sense in the first.
    if isinstance(error, ImportError) and NO_SUBINTERPRETERS in str(error):
        name = error.name or str(error).removeprefix("module ").partition(" ")[0]
        return f"{name} cannot be loaded in a subinterpreter; use --start-mode process\n{''.join(lines)}"
    summary = next(part for part in described.format_exception_only() if not part.startswith(" ")).splitlines()[0]
    return f"{summary}\n{''.join(lines)}".rstrip()


def is_machinery(filename: str) -> bool:
    """Whether a frame of that file is ours or the import system's."""
    return filename.startswith(_MACHINERY)


def _strip(described: traceback.TracebackException) -> None:
    """Leave out our own frames and the import system's, also in what it was caused by and what it groups."""
    described.stack = traceback.StackSummary.from_list(
        [frame for frame in described.stack if not is_machinery(frame.filename)]
    )
    for inner in (described.__cause__, described.__context__, *(described.exceptions or ())):
        if inner is not None:
            _strip(inner)
