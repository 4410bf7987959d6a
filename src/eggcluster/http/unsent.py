"""What a client has not taken yet of what was written to it. Runs in the app workers."""

import asyncio
from typing import NamedTuple

from eggcluster.kernel.tcp_info import acknowledged, has_unacknowledged


class Unsent(NamedTuple):
    """Whether anything waits to be sent, and a mark that falls as the client takes something."""

    waits: bool
    mark: float


def unsent(transport: asyncio.Transport) -> Unsent:
    """Return what waits in a transport.

    A TLS transport knows only what is not encrypted yet. The rest lies in another one below it, which cannot be asked;
    but as long as it holds something, so does the kernel.
    """
    queued = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")  # None once the connection is lost
    if sock is None or transport.get_extra_info("ssl_object") is None:
        return Unsent(bool(queued), queued)
    return Unsent(bool(queued) or has_unacknowledged(sock), queued - acknowledged(sock))
