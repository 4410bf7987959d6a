"""Finds the processes that belong to a worker, and ends them. Runs in the master, and in a child without a master.

Every child of the master leads a session of its own, and its environment carries two marks. So its children and
grandchildren are found even if they have left its session or outlived it.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator

CLUSTER_MARK = "EGG_CLUSTER_ID"
WORKER_MARK = "EGG_WORKER_MARK"


def session_members(leader: int, mark: str = "") -> list[int]:
    """Return the living processes of the session that `leader` leads or led, and those that carry `mark`, by pid.

    `mark` is `NAME=value` as in the environment with which a process was started. The caller is left out.
    """
    wanted = mark.encode()
    return _select(lambda pid: _session(pid) == leader or (bool(wanted) and _carries(pid, wanted)))


def marked(mark: str) -> list[int]:
    """Return the living processes that carry `mark`, without the caller."""
    wanted = mark.encode()
    return _select(lambda pid: _carries(pid, wanted))


def children_of(parent: int) -> list[int]:
    """Return the living children of a process, adopted ones included."""
    return _select(lambda pid: _parent(pid) == parent)


def identified_children(parent: int) -> frozenset[tuple[int, bytes]]:
    """Return the children that a process has now, each with its birth: a reused pid is another process."""
    return frozenset((pid, _birth(pid)) for pid in children_of(parent))


def children_but(strangers: frozenset[tuple[int, bytes]], parent: int) -> list[int]:
    """Return the living children of a process that are not among `strangers`."""
    return [pid for pid in children_of(parent) if (pid, _birth(pid)) not in strangers]


def zombies_of(parent: int) -> list[int]:
    """Return the children of a process that have ended and are not reaped yet; nothing if there is no /proc."""
    return [pid for pid in _all_pids() if _stat(pid)[:2] == [b"Z", b"%d" % parent]]


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process that still exists and may be signalled."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def is_out_of_reach(pid: int) -> bool:
    """Return whether a living process belongs to another user, as after `sudo`, and so may not be signalled."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        pass
    return False


def kill_until_gone(find: Callable[[], list[int]], limit: float = 2.0) -> list[int]:
    """SIGKILL what `find` finds until it finds nothing, because a process may fork while it is being killed.

    Blocks for up to `limit` seconds. Return the pids that are left, which only the kernel can keep alive.
    """
    deadline = time.monotonic() + limit
    while (left := find()) and time.monotonic() < deadline:
        signal_all(left, signal.SIGKILL)
        time.sleep(0.005)
    return left


def is_running(pid: int) -> bool:
    """Return whether `pid` is a process that is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except FileNotFoundError:
        return _exists_without_proc(pid)
    except OSError:
        return False


def _exists_without_proc(pid: int) -> bool:
    if os.path.isdir("/proc/self"):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


_reserve: int | None = None
_keepers = 0


@contextlib.contextmanager
def reserve_kept() -> Iterator[None]:
    """Reserve one file descriptor for searches: a master that has no other left must still be able to kill."""
    global _keepers
    _keepers += 1
    _refill()
    try:
        yield
    finally:
        _keepers -= 1
        if not _keepers:
            _spend()


def _refill() -> None:
    """Open the reserve again if it is wanted and not open; it may have failed to open before."""
    global _reserve
    if _keepers and _reserve is None:
        with contextlib.suppress(OSError):
            _reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _spend() -> None:
    global _reserve
    held, _reserve = _reserve, None
    if held is not None:
        os.close(held)


def _select(wanted: Callable[[int], bool]) -> list[int]:
    _spend()
    me = os.getpid()
    try:
        return [pid for pid in _all_pids() if pid != me and wanted(pid) and is_running(pid)]
    finally:
        _refill()


def _all_pids() -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    except FileNotFoundError:
        import psutil  # macOS only: there is no /proc

        return list(psutil.pids())


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else -1


def _stat(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat behind the name (proc(5)): state, parent, …; [] if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _birth(pid: int) -> bytes:
    """Return when a process was started: field 22 of /proc/PID/stat (proc(5)); b"" if there is none."""
    return b"".join(_stat(pid)[19:20])


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1


def _carries(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False
