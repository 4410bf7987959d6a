"""The report of a boot that failed: what a person needs to mend it, and nothing of our own machinery."""

import os
import traceback

import eggcluster
from eggcluster.errors import BootError, OptionsError

_OWN = os.path.dirname(eggcluster.__file__ or "") + os.sep


def describe_failure(error: BaseException) -> str:
    """The exception and the frames of its traceback that lie in the application, as text.

    The first line stands alone: `ModuleNotFoundError: No module named 'x'`.
    """
    if isinstance(error, (OptionsError, BootError)):
        return str(error)
    described = traceback.TracebackException.from_exception(error)
    _strip(described)
    lines = list(described.format())
    summary = "".join(described.format_exception_only()).strip().splitlines()[-1]
    return f"{summary}\n{''.join(lines)}".rstrip()


def _strip(described: traceback.TracebackException) -> None:
    """Leave out our own frames and the import system's, also in what it was caused by."""
    described.stack = traceback.StackSummary.from_list(
        [f for f in described.stack if not (f.filename.startswith(_OWN) or "importlib" in f.filename)]
    )
    for inner in (described.__cause__, described.__context__):
        if inner is not None:
            _strip(inner)
