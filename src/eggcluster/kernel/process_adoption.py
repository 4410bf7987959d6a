"""prctl(2): orphans become children of the master, and a worker wakes when its parent dies. Runs in all; Linux only."""

import contextlib
import os
import signal
import sys

from eggcluster.kernel.process_tree import zombies_of

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def wake_when_parent_dies() -> None:
    """Get SIGCONT when the parent dies: a worker that was stopped (SIGSTOP) could not end itself otherwise.

    It is not SIGKILL, because a worker that can still run ends its own children first, and chooses its exit code.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0)


PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def become_subreaper() -> bool:
    """Adopt orphaned descendants from now on. Return False if the system does not support it."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes  # 1 MB and 5 ms that only the master has to pay

    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def reap_adopted(own: set[int]) -> None:
    """Reap all zombie children of this process that are not in `own`; those in `own` are waited for elsewhere."""
    while (zombie := _first_zombie()) is not None:
        if zombie in own:
            # The kernel shows this one first until the code that waits for it has reaped it.
            _reap_behind(own)
            return
        _reap(zombie)


def _first_zombie() -> int | None:
    """Return the zombie child that the kernel shows first, without reaping it; None if there is no zombie."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None


def _reap_behind(own: set[int]) -> None:
    """Find the other zombies in /proc. This happens only at the death of a child in `own`, which is rare."""
    for zombie in zombies_of(os.getpid()):
        if zombie not in own:
            _reap(zombie)


def _reap(zombie: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOHANG)
