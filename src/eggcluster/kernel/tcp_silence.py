"""How long nothing has passed over a connection: the kernel knows, nobody has to count. Runs in the app workers."""

import socket
import struct
import sys
from typing import Any

TCP_INFO = struct.Struct("=44xI4xI4x")  # struct tcp_info, <linux/tcp.h>: tcpi_last_data_sent, tcpi_last_data_recv in ms
INT = 4  # bytes


def silence_of(sock: Any) -> float | None:
    """Seconds since data was sent or has come in, or since it was connected. None where the kernel does not say it:
    on Unix sockets, and not on Linux.

    `sock` may be the stand-in that a transport gives out.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        sent, received = TCP_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size))
    except (OSError, struct.error):
        return None
    return float(min(sent, received)) / 1000


def has_unread(sock: Any) -> bool:
    """Whether data has come in that nobody has read: closing now would reset the connection (RFC 2525, 2.17)."""
    import fcntl  # only a worker that drains needs them
    import termios

    try:
        return bool(any(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(INT))))
    except OSError:
        return False
