"""What the kernel knows of a TCP socket: waiting connections, silence, unread data. Runs in app workers."""

import socket
import struct
import sys
from typing import Any

UNACKED = struct.Struct("=24xI")  # struct tcp_info, <linux/tcp.h>, up to tcpi_unacked: of a listener, its queue


def waiting_connections(listener: socket.socket) -> int:
    """Return how many connections wait to be accepted; 0 if the kernel does not tell: for Unix sockets, and elsewhere
    than on Linux. Costs less than an accept in vain."""
    if sys.platform != "linux":
        return 0
    try:
        (waiting,) = UNACKED.unpack(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, UNACKED.size))
    except (OSError, struct.error):
        return 0
    return int(waiting)


LAST_DATA = struct.Struct("=44xI4xI4x")  # struct tcp_info (<linux/tcp.h>): tcpi_last_data_sent, _recv, in ms
INT = 4  # bytes


def silence_of(sock: Any) -> float | None:
    """Return the seconds since data was last sent or received, or since the connection was made. None if the kernel
    does not tell: for Unix sockets, for a closed socket, and elsewhere than on Linux.

    `sock` may be the stand-in for a socket that a transport gives out.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        sent, received = LAST_DATA.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_DATA.size))
    except (OSError, ValueError, struct.error):  # ValueError: uvloop raises it for a closed transport
        return None
    return float(min(sent, received)) / 1000


def has_unread(sock: Any) -> bool:
    """Return whether unread data has come in: closing now would reset the connection (RFC 2525, 2.17)."""
    import fcntl  # only a worker that drains needs these two
    import termios

    try:
        return bool(any(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(INT))))
    except (OSError, ValueError):
        return False


BYTES_ACKED = struct.Struct("=120xQ")  # struct tcp_info, up to tcpi_bytes_acked


def acknowledged(sock: Any) -> int:
    """Return how many bytes the peer has taken so far; 0 if the kernel does not tell."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        (acked,) = BYTES_ACKED.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED.size))
    except (OSError, ValueError, struct.error):
        return 0
    return int(acked)


def has_unacknowledged(sock: Any) -> bool:
    """Return whether the peer has not taken all that the kernel has got for it."""
    import fcntl
    import termios

    try:
        return bool(any(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(INT))))
    except (OSError, ValueError):
        return False
