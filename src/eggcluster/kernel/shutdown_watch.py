"""Notices when a listening socket is shut down (shutdown(2)), by whomever shares it. Linux; in master and agent."""

import select
import socket

# Nothing but these wakes: EPOLLHUP, which is always reported, of a TCP socket that does not listen any more, and
# EPOLLRDHUP of a Unix socket. New connections do not.
_SHUT = getattr(select, "EPOLLRDHUP", 0)


def is_shut(listener: socket.socket) -> bool:
    """Whether it is shut down; False where the kernel does not say it."""
    look = select.poll()
    look.register(listener, _SHUT)
    return bool(look.poll(0))


class ShutdownWatch:
    """To be waited for by its `fileno`: it is readable while one of the sockets is shut down."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}

    def fileno(self) -> int:
        return self._epoll.fileno()

    def add(self, sock: socket.socket) -> None:
        """Watch this one, too; OSError where the kernel has no room for it."""
        self._epoll.register(sock.fileno(), _SHUT)
        self._sockets[sock.fileno()] = sock

    def take_shut(self) -> list[socket.socket]:
        """Those that are shut down, in the order in which it was done; they are watched no more."""
        shut = [self._sockets.pop(fd) for fd, _ in self._epoll.poll(0)]
        for sock in shut:
            self._epoll.unregister(sock.fileno())
        return shut

    def close(self) -> None:
        """May be called again."""
        self._epoll.close()
        self._sockets.clear()
