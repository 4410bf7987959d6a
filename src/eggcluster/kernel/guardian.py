"""A process that outlives another one by a moment, to end what that has left behind. Runs beside a master with threads.

Where workers are processes, their lifelines do this. Where they are threads, they die with the master, and nothing else
would be left: a child of `multiprocessing`'s fork server is nobody's child then, and every child after a SIGKILL.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from eggcluster.kernel.memory import memory_file
from eggcluster.kernel.process_exit import wait_until_gone
from eggcluster.kernel.process_tree import CLUSTER_MARK, kill_until_gone, marked

KILL_LIMIT = 5.0  # seconds, for a process that the kernel keeps
CLOSE_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def start_guardian(title: str) -> None:
    """Mark this process's later children, and fork a guardian that SIGKILLs all that carry the mark once this process
    has ended, in whatever way. Call it before there are threads.

    The guardian is no child of this process: it is neither waited for nor found among the children. The mark is double.
    Programs have it in their environment, also grandchildren and daemons, but not one that was started without the
    environment. What was forked and executes no program has its parent's environment in /proc; there the mark is an
    open file, which is closed at execve(2).
    """
    if threading.active_count() > 1:
        raise AssertionError("BUG: a process with threads must not fork")
    me, mark = os.getpid(), f"{os.getpid()}-{os.urandom(4).hex()}"
    os.environ[CLUSTER_MARK] = mark
    held = _identity(os.stat(memory_file(f"egg-mark-{mark}", 1)))
    if (child := os.fork()) == 0:
        try:
            if os.fork() == 0:
                _guard(me, f"{CLUSTER_MARK}={mark}", held, title)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _guard(master: int, mark: str, held: tuple[int, int], title: str) -> None:
    import setproctitle

    os.setsid()  # what a terminal or a shell sends to the master's group is not for the guardian
    for number in CLOSE_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    setproctitle.setproctitle(title)
    _close_all()
    wait_until_gone(master)
    kill_until_gone(lambda: [*marked(mark), *_holders(held)], KILL_LIMIT)


def _holders(held: tuple[int, int]) -> list[int]:
    """Return the living processes that have this file open; none where there is no /proc."""
    if not os.path.isdir("/proc/self"):
        return []
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and held in _open_files(int(name))]


def _open_files(pid: int) -> Iterator[tuple[int, int]]:
    with contextlib.suppress(OSError):  # it has ended, or belongs to another user
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                yield _identity(os.stat(f"/proc/{pid}/fd/{name}"))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _close_all() -> None:
    """Close what was inherited: a reader of the log has to notice the master's end."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
