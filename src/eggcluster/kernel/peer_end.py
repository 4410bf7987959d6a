"""The end of a connection as its peer makes it, and one that the peer sees as an error. Runs in the app workers."""

import contextlib
import select
import socket
import struct
from typing import Any, Literal

PEER_SHUT = getattr(select, "POLLRDHUP", 0)  # elsewhere than on Linux only the end of both halves is seen


def peer_end(sock: Any) -> Literal["reset", "end"] | None:
    """Return how the peer has ended the connection: by a reset, or by shutting its sending half. None if it has not,
    and for a closed socket. What it sent before may not have been read yet.

    `sock` may be the stand-in for a socket that a transport gives out.
    """
    poll = select.poll()
    try:
        poll.register(sock.fileno(), PEER_SHUT)
        events = sum(event for _, event in poll.poll(0))
    except (OSError, ValueError):
        return None
    if events & (select.POLLERR | select.POLLHUP):
        return "reset"
    return "end" if events & PEER_SHUT else None


def reset_on_close(sock: Any) -> None:
    """Have the close of the socket send a reset; what the peer has not taken is lost."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
