"""What ASGI has besides plain requests: early hints, and a file as a response. Runs in the app workers."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from eggcluster.http.exchange import DONE, HEAD, NOTHING, Exchange
from eggcluster.http.framing import render_interim
from eggcluster.http.sendfile import FilePart, send_by_kernel

Wait = Callable[[], Awaitable[None]]

PIECE = 256 * 1024  # bytes of a file that are read at once where the kernel cannot send it

EXTENSIONS: dict[str, dict[str, Any]] = {
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.trailers": {},
}


def send_early_hint(exchange: Exchange, message: dict[str, Any]) -> None:
    """Send 103 with the links (RFC 8297); nothing to an HTTP/1.0 client, or once the response has begun."""
    if exchange.stage == NOTHING and exchange.head.version == "1.1":
        links = [(b"link", link) for link in message.get("links", ())]
        exchange.connection.transport.write(render_interim(103, links))


async def send_path(exchange: Exchange, path: str, wait_for_room: Wait) -> None:
    """Send a file as the whole body; by sendfile(2) where nothing has to be encrypted.

    BadResponse if the file is shorter than the response's Content-Length; of a longer one, only that much is sent.
    """
    if exchange.stage != HEAD:
        raise RuntimeError("http.response.pathsend is the whole body: it follows http.response.start")
    with open(path, "rb") as file:  # noqa: ASYNC230  # a local file: to open it takes no longer than to ask a thread
        size = os.fstat(file.fileno()).st_size
        if not await send_by_kernel(exchange, FilePart(file.fileno(), 0, size)):
            await _send_pieces(exchange, file, exchange.room_in_body(size), wait_for_room)


async def _send_pieces(exchange: Exchange, file: Any, size: int, wait_for_room: Wait) -> None:
    sent = 0
    while exchange.stage != DONE and sent < size:
        piece = await asyncio.to_thread(file.read, min(PIECE, size - sent))
        if not piece:
            break
        sent += len(piece)
        exchange.write(piece, more=True)
        await wait_for_room()
    if exchange.stage != DONE:
        exchange.write(b"", more=False)
