"""Sockets that a worker inherited from its master. Runs in agent and app workers."""

import os
import socket
from collections.abc import Iterable

SD_LISTEN_FDS_START = 3  # the first socket that systemd passes: sd_listen_fds(3)
_waiting: set[int] = set()  # for those who will take them; of workers that are threads


class InheritedSocket(socket.socket):
    """The socket behind an inherited file descriptor, as long as that number is its own.

    A library that closes a file descriptor twice closes somebody else's the second time. The event loop is not told
    then: it waits for ever.
    """

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        super().__init__(family, type, proto, fileno)  # all of it, for `dup`
        self._file = os.fstat(self.fileno())

    @property
    def is_lost(self) -> bool:
        """Whether something else, or nothing, has its number now. Costs a microsecond."""
        try:
            return not os.path.samestat(os.fstat(self.fileno()), self._file)
        except OSError:
            return True

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
    """These belong to a worker that is a thread: no process end will close those that nobody takes."""
    _waiting.update(fds)


def close_untaken(fds: Iterable[int]) -> None:
    """Its end: close those of `fds` that nobody took."""
    for fd in _waiting.intersection(fds):
        _waiting.discard(fd)
        os.close(fd)
