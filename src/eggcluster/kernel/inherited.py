"""Sockets that a worker inherited from its master. Runs in agent and app workers."""

import os
import socket
from collections.abc import Iterable

SD_LISTEN_FDS_START = 3  # the first socket that systemd passes: sd_listen_fds(3)
_waiting: set[int] = set()  # for those who will take them; of workers that are threads


def inherited_socket(fd: int) -> socket.socket:
    """The socket behind an inherited file descriptor, non-blocking; what the application starts does not get it."""
    _waiting.discard(fd)
    sock = socket.socket(fileno=fd)
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
