"""A file as the whole body of a response, sent by the kernel: sendfile(2). Runs in the app workers."""

import asyncio
import errno
import os
from typing import NamedTuple

from eggcluster.http.exchange import DONE, Exchange

AT_ONCE = 1024 * 1024  # bytes; then the loop's other work has its turn, however fast the client reads
# sendfile(2) for a file system that has no such thing; asyncio falls back at the same ones.
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


class FilePart(NamedTuple):
    """`size` bytes from `offset` on, of the regular file behind a descriptor."""

    descriptor: int
    offset: int
    size: int


async def send_by_kernel(exchange: Exchange, part: FilePart) -> bool:
    """Send the response's head, and the part as its body, with a Content-Length. Returns once it is sent, or cannot be.

    False if the kernel cannot send it, as with TLS: the head is out then, and the whole body is still to come. A longer
    part than the Content-Length is cut off there. BadResponse for a shorter one, and for a file that becomes shorter:
    the connection is closed, so that the client sees that something is missing.
    """
    exchange.announce_size(part.size)
    exchange.flush_head()
    if exchange.stage == DONE:
        return True
    size = exchange.room_in_body(part.size)
    if size and not exchange.can_send_raw():
        return False
    sent = await _send(exchange, part._replace(size=size)) if size else 0
    if sent is not None:
        exchange.raw_sent(sent)
    return sent is not None


async def _send(exchange: Exchange, part: FilePart) -> int | None:
    """Write to the transport's socket once the transport has sent all; return how much was sent, None if it cannot."""
    transport = exchange.connection.transport
    transport.set_write_buffer_limits(0)
    while exchange.connection.is_write_paused and exchange.stage != DONE:
        await _until_writable(exchange, None)
    if transport.is_closing():  # its number may be another one's soon
        _give_up(exchange)
        return 0
    sock = os.dup(transport.get_extra_info("socket").fileno())  # the loop watches the transport's own number already
    try:
        return await _pump(exchange, sock, part)
    finally:
        os.close(sock)
        if not transport.is_closing():
            transport.set_write_buffer_limits()


async def _pump(exchange: Exchange, sock: int, part: FilePart) -> int | None:
    file, offset, size = part
    sent = 0
    while sent < size and exchange.stage != DONE:
        try:
            count = os.sendfile(sock, file, offset + sent, min(size - sent, AT_ONCE))
        except BlockingIOError:
            await _until_writable(exchange, sock)
            continue
        except ConnectionError:
            _give_up(exchange)
            break
        except OSError as error:
            if sent or error.errno not in _UNSUPPORTED:
                raise
            return None
        if not count:
            break
        sent += count
        await asyncio.sleep(0)
    return sent


async def _until_writable(exchange: Exchange, sock: int | None) -> None:
    """Wait until the socket takes more, or without one the transport has sent all; or until the connection is lost.

    A client that takes nothing from the socket for `--write-timeout` is cut off. While the transport sends, its
    connection sees to that.
    """
    loop = exchange.connection.server.loop
    exchange.file_waiter = waiter = loop.create_future()
    try:
        if sock is None:
            await waiter
            return
        loop.add_writer(sock, exchange.wake_file)
        async with asyncio.timeout(exchange.connection.server.settings.write_timeout or None):
            await waiter
    except TimeoutError:
        _give_up(exchange)
    finally:
        exchange.file_waiter = None
        if sock is not None:
            loop.remove_writer(sock)


def _give_up(exchange: Exchange) -> None:
    """End the connection: the client has left, or reads nothing."""
    exchange.connection.reset()
    exchange.connection_lost()  # at once: the transport tells it in the loop's next turn
