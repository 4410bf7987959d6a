"""What ASGI has besides plain requests: early hints, a file as a response, TLS facts. Runs in the app workers."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from eggcluster.http.exchange import DONE, HEAD, NOTHING, Exchange
from eggcluster.http.framing import BadResponse, render_interim

if TYPE_CHECKING:
    import ssl

Wait = Callable[[], Awaitable[None]]

PIECE = 256 * 1024  # bytes of a file that are read at once where the kernel cannot send it

EXTENSIONS: dict[str, dict[str, Any]] = {
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.trailers": {},
}


def tls_extension(connection: "ssl.SSLObject | ssl.SSLSocket") -> dict[str, Any]:
    """Return ASGI's extension `tls` for a connection; certificates in PEM."""
    import ssl

    certificate = connection.getpeercert(binary_form=True)
    cipher = connection.cipher()
    return {
        "server_cert": None,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(certificate)] if certificate else [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}.get(connection.version() or ""),
        "cipher_suite": cipher[0] if cipher else None,
    }


def send_early_hint(exchange: Exchange, message: dict[str, Any]) -> None:
    """Send 103 with the links (RFC 8297); nothing to an HTTP/1.0 client, or once the response has begun."""
    if exchange.stage == NOTHING and exchange.head.version == "1.1":
        links = [(b"link", link) for link in message.get("links", ())]
        exchange.connection.transport.write(render_interim(103, links))


async def send_path(exchange: Exchange, path: str, wait_for_room: Wait) -> None:
    """Send a file as the whole body; by sendfile(2) where nothing has to be encrypted."""
    if exchange.stage != HEAD:
        raise RuntimeError("http.response.pathsend is the whole body: it follows http.response.start")
    with open(path, "rb") as file:  # noqa: ASYNC230  # a local file: to open it takes no longer than to ask a thread
        size = os.fstat(file.fileno()).st_size
        exchange.announce_size(size)
        exchange.flush_head()
        if exchange.connection.is_tls or not exchange.can_send_raw():
            await _send_pieces(exchange, file, size, wait_for_room)
        else:
            await _send_by_kernel(exchange, file.fileno(), size, wait_for_room)
            exchange.raw_sent(size)


async def _send_pieces(exchange: Exchange, file: Any, size: int, wait_for_room: Wait) -> None:
    sent = 0
    while exchange.stage != DONE and sent < size:
        piece = await asyncio.to_thread(file.read, min(PIECE, size - sent))
        if not piece:
            raise BadResponse("the file became shorter while it was sent")
        sent += len(piece)
        exchange.write(piece, more=True)
        await wait_for_room()
    if exchange.stage != DONE:
        exchange.write(b"", more=False)


async def _send_by_kernel(
    exchange: Exchange, file: int, size: int, wait_for_room: Callable[[], Awaitable[None]]
) -> None:
    """Send the file over the transport's socket, once the transport itself has sent all."""
    transport, loop = exchange.connection.transport, exchange.connection.server.loop
    transport.set_write_buffer_limits(0)
    sock = os.dup(transport.get_extra_info("socket").fileno())  # the loop watches the transport's own number already
    try:
        while exchange.connection.is_write_paused:
            await wait_for_room()
        sent = 0
        while sent < size and exchange.stage != DONE:
            try:
                count = os.sendfile(sock, file, sent, size - sent)
            except BlockingIOError:
                await _until_writable(loop, sock)
                continue
            if not count:
                raise BadResponse("the file became shorter while it was sent")
            sent += count
    finally:
        os.close(sock)
        transport.set_write_buffer_limits()


def _wake(writable: "asyncio.Future[None]") -> None:
    if not writable.done():
        writable.set_result(None)


async def _until_writable(loop: asyncio.AbstractEventLoop, sock: int) -> None:
    writable: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, _wake, writable)
    try:
        await writable
    finally:
        loop.remove_writer(sock)
