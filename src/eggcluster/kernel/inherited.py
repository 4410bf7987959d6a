"""Sockets that a worker inherited from its master. Runs in agent and app workers."""

import socket

SD_LISTEN_FDS_START = 3  # the first socket that systemd passes: sd_listen_fds(3)


def inherited_socket(fd: int) -> socket.socket:
    """The socket behind an inherited file descriptor, non-blocking; what the application starts does not get it."""
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock
