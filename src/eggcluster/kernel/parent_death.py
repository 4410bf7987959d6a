"""PR_SET_PDEATHSIG: a signal from the kernel when the parent dies. Linux only. Runs in every worker process."""

import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def wake_when_parent_dies() -> None:
    """SIGCONT when the parent dies: a worker that somebody has stopped (SIGSTOP) could not end itself otherwise.

    Not SIGKILL: a worker that can still run ends its own children first, and chooses its exit code.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0)
