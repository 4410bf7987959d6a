"""How many connections wait to be accepted: the kernel says it of a TCP listener. Runs in the app workers."""

import socket
import struct
import sys

TCP_INFO = struct.Struct("=24xI")  # struct tcp_info, <linux/tcp.h>, up to tcpi_unacked: of a listener, its queue


def waiting_connections(listener: socket.socket) -> int:
    """0 where the kernel does not say it: of Unix sockets, and not on Linux. It costs less than an accept in vain."""
    if sys.platform != "linux":
        return 0
    try:
        (waiting,) = TCP_INFO.unpack(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size))
    except (OSError, struct.error):
        return 0
    return int(waiting)
