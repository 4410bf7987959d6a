"""A channel: one end of a stream socket between the master and one other. Runs in an event loop, at both ends."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from eggcluster.errors import FrameError, MessengerClosed
from eggcluster.ipc.frame import MAX_MESSAGE_BYTES, ROUTE, Frame, FrameReader

Route = Callable[[bytes], bool]

SOCKET_BUFFER = 2 * 1024 * 1024  # bytes; the kernel takes what it allows (net.core.wmem_max)


class Channel(asyncio.Protocol):
    """Frames in, frames out. What is written in one turn of the loop leaves in one system call.

    `on_frames` gets the frames of each read. `on_closed` is called once, when the other side has gone (None) or
    has sent what is no frame (the FrameError). `high_water` is how many bytes may wait here before the channel is
    `congested`, until `on_relieved` is called; 0 makes it so for as long as anything waits.

    `ways` are short cuts, by the part of the header that says where a frame goes. A read that brings one small frame
    and no more hands it to its way; where there is none, or it returns False, the frame goes to `on_frames`.
    """

    def __init__(
        self,
        on_frames: Callable[[list[Frame]], None],
        on_closed: Callable[[FrameError | None], None],
        max_bytes: int = MAX_MESSAGE_BYTES,
        *,
        high_water: int = 0,
        on_relieved: Callable[[], None] | None = None,
        runs: bool = False,
    ) -> None:
        self.reader = FrameReader(max_bytes, runs=runs)
        self.written = 0  # bytes, of which `queued_bytes` have not left yet
        self.ways: dict[bytes, Route] = {}
        self._on_frames = on_frames
        self._on_closed = on_closed
        self._high_water = high_water
        self._on_relieved = on_relieved
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._open = False
        self._outgoing: list[bytes | bytearray] = []
        self._outgoing_bytes = 0
        self._flush_scheduled = False
        self._receiving = False
        self._paused = False
        self._failure: FrameError | None = None
        self._bulk = BulkProtocol(self)
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def open(
        cls,
        sock: socket.socket,
        on_frames: Callable[[list[Frame]], None],
        on_closed: Callable[[FrameError | None], None],
        max_bytes: int = MAX_MESSAGE_BYTES,
        *,
        high_water: int = 0,
        on_relieved: Callable[[], None] | None = None,
        runs: bool = False,
    ) -> "Channel":
        """A channel over a connected stream socket, which it owns from now on; the rest as for the class."""
        channel = cls(on_frames, on_closed, max_bytes, high_water=high_water, on_relieved=on_relieved, runs=runs)
        await channel.connect(sock)
        return channel

    async def connect(self, sock: socket.socket) -> None:
        """Take over a connected stream socket, once; the first frames may come before this returns."""
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
        await self._loop.create_connection(lambda: self, sock=sock)

    @property
    def closed(self) -> bool:
        return not self._open

    @property
    def queued_bytes(self) -> int:
        """What waits here because the other side does not read."""
        return self._outgoing_bytes + (self._transport.get_write_buffer_size() if self._transport else 0)

    @property
    def congested(self) -> bool:
        """Whether more than `high_water` bytes wait for the other side to read."""
        return self._paused or self._outgoing_bytes > self._high_water > 0

    def exceeds(self, limit: int) -> bool:
        """Whether more than `limit` bytes wait here; asked for each message, so it first asks what is cheap."""
        return self._outgoing_bytes > limit or (self._paused and self.queued_bytes > limit)

    def write(self, data: bytes | bytearray) -> None:
        """Queue the bytes of whole frames; returns at once. MessengerClosed when the channel is closed."""
        if not self._open:
            raise MessengerClosed("the channel to the master is closed")
        self.written += len(data)
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)
        if not (self._flush_scheduled or self._receiving):
            self.flush_soon()

    def pass_on(self, raw: bytes) -> bool:
        """Send one small frame without waiting for the end of the turn; False, and nothing is sent, where something
        waits already or the channel is closed."""
        if self._outgoing or self._paused or not self._open:
            return False
        self.written += len(raw)
        self._transport.write(raw)  # type: ignore[union-attr]  # it is open
        return True

    def flush_soon(self) -> None:
        """Flush right behind those who are scheduled to run: what they write leaves in the same turn of the loop."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_scheduled_once)

    def _flush_scheduled_once(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def flush(self) -> None:
        """Hand over to the kernel what was written in this turn of the loop."""
        outgoing = self._outgoing
        if not outgoing:
            return
        congested = self._on_relieved is not None and self.congested
        self._outgoing, self._outgoing_bytes = [], 0
        if self._open and self._transport is not None:
            self._transport.write(outgoing[0] if len(outgoing) == 1 else b"".join(outgoing))
            if congested and not self.congested and self._on_relieved is not None:
                self._on_relieved()  # the kernel took all at once, so that resume_writing will not be called

    async def drain(self) -> None:
        """Wait until all that was written has left this process; MessengerClosed if the channel closes meanwhile."""
        self.flush()
        await self._writable.wait()
        if self.closed:
            raise MessengerClosed("the channel to the master was closed before everything was sent")

    def close(self) -> None:
        """Close after what was written has been sent; may be called again."""
        self.flush()
        self._open = False
        if self._transport is not None:
            self._transport.close()

    def fail(self, error: FrameError) -> None:
        """Close at once, without sending what is queued: the other side has broken the protocol."""
        self._failure = error
        self._open = False
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Read no more for now: the kernel's buffer fills up, then the other side's."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- asyncio's side --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its base class
        # High water 0 makes "may write again" mean "nothing is left here", which is what drain() waits for.
        self._transport.set_write_buffer_limits(high=self._high_water)
        self._open = True

    def data_received(self, data: bytes) -> None:
        self._receiving = True
        try:
            if not self.reader.is_single(data) or (way := self.ways.get(data[ROUTE])) is None or not way(data):
                self._take(data)
        finally:
            self._receiving = False
            if self._outgoing:
                self.flush()

    def _take(self, data: bytes) -> None:
        try:
            frames = self.reader.feed(data)
        except FrameError as error:
            self.fail(error)
            return
        if frames:
            self._on_frames(frames)
        if len(data) >= MUCH:
            self._switch(self._bulk)

    def take_filled(self, nbytes: int) -> None:
        """So many bytes have been put into the reader's buffer."""
        self._receiving = True
        try:
            frames = self.reader.filled(nbytes)
        except FrameError as error:
            self.fail(error)
        else:
            self._on_frames(frames)
        finally:
            self._receiving = False
            self.flush()

    def end_bulk(self) -> None:
        """Little comes from now on; nothing of a frame waits in the reader."""
        self._switch(self)

    def _switch(self, protocol: asyncio.BaseProtocol) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.set_protocol(protocol)

    def eof_received(self) -> None:
        """The other side sends no more: asyncio closes the transport."""

    def pause_writing(self) -> None:
        self._paused = True
        self._writable.clear()

    def resume_writing(self) -> None:
        self._paused = False
        self._writable.set()
        if self._on_relieved is not None:
            self._on_relieved()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open = self._paused = False
        self._writable.set()
        self._on_closed(self._failure)


MUCH = 16 * 1024  # bytes in one read
LITTLE = 4 * 1024
CALM = 4  # reads of little in a row, after which no more bulk is expected


class BulkProtocol(asyncio.BufferedProtocol):
    """The channel's other half: it reads straight into the reader's buffer, and hands all else on to the channel."""

    def __init__(self, channel: "Channel") -> None:
        self._channel = channel
        self._reader = channel.reader
        self._calm = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.room

    def buffer_updated(self, nbytes: int) -> None:
        self._calm = self._calm + 1 if nbytes <= LITTLE else 0
        self._channel.take_filled(nbytes)
        if self._calm >= CALM and not self._reader.pending:
            self._calm = 0
            self._channel.end_bulk()

    def eof_received(self) -> None:
        self._channel.eof_received()

    def pause_writing(self) -> None:
        self._channel.pause_writing()

    def resume_writing(self) -> None:
        self._channel.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel.connection_lost(exc)
