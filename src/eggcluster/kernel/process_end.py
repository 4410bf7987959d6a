"""The end of a process, whatever the environment tells Python to do then. Runs in all processes of a cluster."""

import atexit
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import NoReturn


def run_and_exit(main: Callable[[], NoReturn]) -> NoReturn:
    """Call `main`, which exits by SystemExit, and end the process with its exit code.

    Under PYTHONINSPECT=1 or `python -i` Python itself would print a traceback, open a prompt and exit with another
    code: a container's variable, left behind by a debugging session, would make each closing a failure.
    """
    if not sys.flags.inspect:
        main()
    try:
        main()
    except SystemExit as end:
        _exit(end.code)


def _exit(code: object) -> NoReturn:
    """Do what Python does at SystemExit: wait for threads, call exit functions, flush, exit."""
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)  # noqa: T201
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # there is no other way to end executors' threads
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 0xFF if isinstance(code, int) else int(code is not None))


def allow_open_transports() -> None:
    """Let no open transport raise from now on, as PYTHONWARNINGS=error demands: call it before an event loop is closed.
    uvloop warns of each transport that is still open, and if that raises, its `close` never returns."""
    warnings.filterwarnings("ignore", "unclosed resource <", ResourceWarning)
