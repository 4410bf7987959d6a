"""Listening sockets: steering a SO_REUSEPORT group, noticing a shutdown(2). Linux; runs in master and workers."""

import os
import select
import socket
import struct

SO_ATTACH_REUSEPORT_CBPF = 51  # <asm-generic/socket.h>
INSTRUCTION_BYTES = 8  # sizeof(struct sock_filter)


def attach_steering(listener: socket.socket, program: bytes) -> None:
    """Replace the program of the group that `listener` belongs to. Takes microseconds. OSError if refused."""
    import ctypes  # only the master needs it

    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: unsigned short len; struct sock_filter *filter
    fprog = struct.pack("HP", len(program) // INSTRUCTION_BYTES, ctypes.addressof(buffer))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, fprog)


# Only two events wake the watch: EPOLLHUP, which is always reported, of a TCP socket that no longer listens, and
# EPOLLRDHUP of a Unix socket. New connections do not wake it.
_SHUT = getattr(select, "EPOLLRDHUP", 0)


def is_shut(listener: socket.socket) -> bool:
    """Return whether a listener is shut down; False if the kernel does not tell."""
    look = select.poll()
    look.register(listener, _SHUT)
    return bool(look.poll(0))


def undo_shutdown(sock: socket.socket) -> None:
    """Reset a TCP socket that is shut down to a new state; it no longer listens then. OSError of connect(2).

    After two shutdowns, listen(2) alone would accept connections that inherit the shutdown and so are shut down from
    the beginning. A connect to AF_UNSPEC resets everything (tcp_disconnect, net/ipv4/tcp.c).
    """
    import ctypes  # only the master needs it

    unspecified = struct.pack("H14x", socket.AF_UNSPEC)
    if ctypes.CDLL(None, use_errno=True).connect(sock.fileno(), unspecified, len(unspecified)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class ShutdownWatch:
    """Watches sockets for a shutdown. Its `fileno` is for an event loop: it is readable while one is shut down."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}

    def fileno(self) -> int:
        return self._epoll.fileno()

    def add(self, sock: socket.socket) -> None:
        """Watch a socket, unless it is watched already. OSError if the kernel has no room for it."""
        if self._sockets.get(sock.fileno()) is not sock:
            self._epoll.register(sock.fileno(), _SHUT)
            self._sockets[sock.fileno()] = sock

    def remove(self, sock: socket.socket) -> None:
        """Stop watching a socket, if it is watched. Call it before the socket is closed: else the copies that other
        processes have of it stay watched."""
        if self._sockets.get(sock.fileno()) is sock:
            del self._sockets[sock.fileno()]
            self._epoll.unregister(sock.fileno())

    def take_shut(self) -> list[socket.socket]:
        """Return the sockets that are shut down, and stop watching them."""
        shut = [self._sockets[fd] for fd, _ in self._epoll.poll(0)]
        for sock in shut:
            self.remove(sock)
        return shut

    def close(self) -> None:
        """Stop watching. May be called again."""
        self._epoll.close()
        self._sockets.clear()
