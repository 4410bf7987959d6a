"""Sockets that a worker inherited from its master. Runs in agent and app workers."""

import fcntl
import os
import socket
from collections.abc import Iterable

SD_LISTEN_FDS_START = 3  # the first socket that systemd passes: sd_listen_fds(3)
_waiting: set[int] = set()  # descriptors of workers that are threads, until they are taken


class InheritedFiles:
    """What inherited file descriptors meant when this was made, until `close`. It keeps a copy of each.

    A library that closes a file descriptor twice closes another one the second time. The event loop is not told
    then: the number is gone, and what comes in is never read.
    """

    def __init__(self, fds: Iterable[int]) -> None:
        self._files = {fd: os.fstat(fd) for fd in fds}
        behind = max(self._files, default=0)
        self._copies = {fd: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, behind) for fd in self._files}

    def put_back(self) -> tuple[list[int], list[int]]:
        """Those that were closed and could be put back, as if nothing had been, and those that are lost: something
        else has their number now. A microsecond for each."""
        gone = [fd for fd, file in self._files.items() if not _is(fd, file)]
        back = [fd for fd in gone if self._put_back(fd)]
        return back, [fd for fd in gone if fd not in back]

    def close(self) -> None:
        """May be called again."""
        while self._copies:
            fd, copy = self._copies.popitem()
            if _is(copy, self._files[fd]):
                os.close(copy)

    def _put_back(self, fd: int) -> bool:
        copy = self._copies.get(fd)
        if copy is None or not _is(copy, self._files[fd]):
            return False
        try:
            # Not dup2: a thread may have got that number a moment ago.
            lowest = fcntl.fcntl(copy, fcntl.F_DUPFD_CLOEXEC, fd)
        except OSError:
            return False
        if lowest != fd:
            os.close(lowest)
        return lowest == fd


def _is(fd: int, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), file)
    except OSError:
        return False


class InheritedSocket(socket.socket):
    """The socket behind an inherited file descriptor, as long as that number is its own."""

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        super().__init__(family, type, proto, fileno)  # all of it, for `dup`
        self._file = os.fstat(self.fileno())

    @property
    def is_lost(self) -> bool:
        """Whether something else, or nothing, has its number now."""
        return not _is(self.fileno(), self._file)

    @property
    def is_taken(self) -> bool:
        """Whether something else has its number now."""
        try:
            os.fstat(self.fileno())
        except OSError:
            return False
        return self.is_lost

    def close(self) -> None:
        """Close it; what has its number now stays open."""
        if self.is_lost:
            self.detach()
        super().close()


def inherited_socket(fd: int) -> InheritedSocket:
    """The socket behind an inherited file descriptor, non-blocking; what the application starts does not get it."""
    _waiting.discard(fd)
    sock = InheritedSocket(fileno=fd)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def hand_down(fds: Iterable[int]) -> None:
    """Register descriptors of a worker that is a thread: no process end closes those that are not taken."""
    _waiting.update(fds)


def close_untaken(fds: Iterable[int]) -> None:
    """The worker ends: close those of `fds` that were not taken."""
    for fd in _waiting.intersection(fds):
        _waiting.discard(fd)
        os.close(fd)
