"""prctl(2): orphans become children of the master, a worker is woken when its parent dies. Linux only."""

import contextlib
import os
import signal
import sys

from eggcluster.kernel.process_tree import zombies_of

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def wake_when_parent_dies() -> None:
    """SIGCONT when the parent dies: a worker that was stopped (SIGSTOP) could not end itself otherwise.

    Not SIGKILL: a worker that can still run ends its own children first, and chooses its exit code.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0)


PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def become_subreaper() -> bool:
    """Adopt orphaned descendants from now on; False where the system has no such thing."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes  # 1 MB and 5 ms that only the master has to pay

    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def reap_adopted(own: set[int]) -> None:
    """Reap all zombies among our children that are not in `own` (those are waited for elsewhere)."""
    while (zombie := _first_zombie()) is not None:
        if zombie in own:
            # The kernel goes on showing this one first, until its own watcher has reaped it.
            _reap_behind(own)
            return
        _reap(zombie)


def _first_zombie() -> int | None:
    """The zombie child that the kernel shows first; it stays one."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None


def _reap_behind(own: set[int]) -> None:
    """A look through /proc: only at the death of a child of our own, which is rare."""
    for zombie in zombies_of(os.getpid()):
        if zombie not in own:
            _reap(zombie)


def _reap(zombie: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOHANG)
