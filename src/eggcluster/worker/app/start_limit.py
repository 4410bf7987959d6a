"""Ends an import that takes longer than an app worker may take to start. Runs in the template of `--preload`.

It has no thread that could watch the import, because a process with threads does not fork.
"""

import contextlib
import signal
import time
import traceback
from collections.abc import Iterator
from types import FrameType

from eggcluster.errors import BootError
from eggcluster.kernel.stacks import stack_of
from eggcluster.worker.lifecycle.heartbeats import MAX_REPORT_LEAD, REPORT_LEAD


class _Expired(BaseException):
    """The time is over. It is no Exception, which an application may catch around an import."""


@contextlib.contextmanager
def limited_start(deadline: float, timeout: float) -> Iterator[None]:
    """Raise BootError, with the place, where the work in the `with` block is at, early enough before `deadline` that a
    worker can report it. Both are in seconds, `deadline` an instant of CLOCK_MONOTONIC. Code in C is not interrupted.
    """
    where = ""

    def expire(number: int, frame: FrameType | None) -> None:
        nonlocal where
        where = stack_of([*traceback.walk_stack(frame)][::-1])
        raise _Expired

    lead = 2 * min(MAX_REPORT_LEAD, timeout * REPORT_LEAD)  # once for the report, once for the fork of its worker
    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, max(deadline - lead - time.monotonic(), 0.001))
    try:
        yield
    except _Expired:
        text = f"start timeout: not ready after {timeout:g}s"
        raise BootError(f"{text}; it was at\n{where}".rstrip() if where else text) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
