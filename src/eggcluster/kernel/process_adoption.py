"""prctl(2): orphans become children of the master; signals at the death of a parent. Runs in all; Linux only."""

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
    _get_at_parents_death(signal.SIGCONT)


def die_with_parent() -> None:
    """Get SIGKILL when the parent dies. Processes that are forked from this one do not inherit it (prctl(2))."""
    _get_at_parents_death(signal.SIGKILL)


def _get_at_parents_death(number: signal.Signals) -> None:
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def become_subreaper() -> bool:
    """Adopt orphaned descendants from now on. Return False if the system does not support it."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes  # 1 MB and 5 ms that only the master has to pay

    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


class AdoptedProcess:
    """A process that this one has adopted, and waits for as for a child that it has started.

    ChildProcessError if it was not adopted. Until it is waited for, its pid is not used again.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def wait(self) -> int:
        """Block until it has ended, and reap it. Return its exit code, or the signal as a negative number."""
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


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
