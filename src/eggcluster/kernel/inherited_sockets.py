"""Sockets that a process inherits: a worker from its master, a master from systemd. Runs in all processes."""

import fcntl
import os
from collections.abc import Iterable

from eggcluster.kernel.stream_socket import StreamSocket

SD_LISTEN_FDS_START = 3  # the first socket that systemd passes: sd_listen_fds(3)
_waiting: set[int] = set()  # descriptors for workers that are threads, until the workers take them


class InheritedFiles:
    """Remembers the files of inherited file descriptors, and keeps a copy of each descriptor until `close`.

    A library that closes a file descriptor twice closes another file the second time. The event loop does not notice:
    the number is gone, and incoming data is never read.
    """

    def __init__(self, fds: Iterable[int]) -> None:
        self._files = {fd: os.fstat(fd) for fd in fds}
        behind = max(self._files, default=0)
        self._copies = {fd: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, behind) for fd in self._files}

    def put_back(self) -> tuple[list[int], list[int]]:
        """Put back what was closed. Return the descriptors that are as before, and those that are lost because
        something else has their number now. Takes a microsecond for each."""
        gone = [fd for fd, file in self._files.items() if not _is(fd, file)]
        back = [fd for fd in gone if self._put_back(fd)]
        return back, [fd for fd in gone if fd not in back]

    def close(self) -> None:
        """Close the copies. May be called again."""
        while self._copies:
            fd, copy = self._copies.popitem()
            if _is(copy, self._files[fd]):
                os.close(copy)

    def _put_back(self, fd: int) -> bool:
        copy = self._copies.get(fd)
        if copy is None or not _is(copy, self._files[fd]):
            return False
        try:
            # Not dup2: another thread may have got that number a moment ago.
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


class InheritedSocket(StreamSocket):
    """The socket of an inherited file descriptor, as long as that number is its own."""

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        super().__init__(family, type, proto, fileno)  # `dup` passes all four
        self._file = os.fstat(self.fileno())

    @property
    def is_lost(self) -> bool:
        """Whether its number is closed now, or belongs to something else."""
        return not _is(self.fileno(), self._file)

    @property
    def is_taken(self) -> bool:
        """Whether its number belongs to something else now."""
        try:
            os.fstat(self.fileno())
        except OSError:
            return False
        return self.is_lost

    def close(self) -> None:
        """Close the socket. If its number belongs to something else now, that stays open."""
        if self.is_lost:
            self.detach()
        super().close()


def inherited_socket(fd: int) -> InheritedSocket:
    """Return the socket of an inherited file descriptor. It is non-blocking, and child processes do not inherit it."""
    _waiting.discard(fd)
    sock = InheritedSocket(fileno=fd)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def hand_down(fds: Iterable[int]) -> None:
    """Register the descriptors of a worker that is a thread. `close_untaken` closes those that it does not take."""
    _waiting.update(fds)


def close_untaken(fds: Iterable[int]) -> None:
    """Close those of `fds` that the worker, which ends, has not taken."""
    for fd in _waiting.intersection(fds):
        _waiting.discard(fd)
        os.close(fd)
