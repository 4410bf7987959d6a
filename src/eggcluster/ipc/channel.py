"""A channel: frames over one end of a stream socket. Runs in the master, all workers and the parent, in an event loop.

Two asyncio protocols share one socket. `Channel` gets each read as a new bytes object from asyncio. After a large read
the transport is switched to `BulkProtocol`, which reads straight into the frame reader's buffer, without a copy. After
a few small reads it is switched back.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import cast

from eggcluster.errors import FrameError, MessengerClosed
from eggcluster.ipc.frame import MAX_MESSAGE_BYTES, ROUTE, Frame, FrameReader

ShortCut = Callable[[bytes], bool]  # takes one small frame; returns False if the frame must go the long way

SOCKET_BUFFER_BYTES = 2 * 1024 * 1024  # the kernel takes what it allows (net.core.wmem_max)
BULK_READ_BYTES = 16 * 1024  # a read of this size or more begins bulk mode
SMALL_READ_BYTES = 4 * 1024
MAX_SMALL_READS = 4  # small reads in a row that end bulk mode
MAX_SHORT_CUTS = 1024  # per channel: one for each kind, target and sender of a frame
# Learned short cuts save 30 of 69 µs per round trip of a lone request (CPU time; app worker, master and agent in one
# process). EGG_NO_SHORT_CUTS=1 turns them off, so that a breakpoint in the long way sees every frame.
SHORT_CUTS = os.environ.get("EGG_NO_SHORT_CUTS") != "1"


class Channel(asyncio.Protocol):
    """Frames in, frames out. All writes of one turn of the event loop leave in one system call.

    `on_frames` gets the frames of each read; `max_bytes` and `runs` are the frame reader's. `on_closed` is called once,
    when the connection has ended: with the FrameError if the other side sent bytes that are not a frame, else with
    None. `high_water` is the number of bytes that may wait here before the channel is `congested`; `on_relieved` is
    called when it no longer is. With 0 it is congested as long as the kernel has not taken everything.

    `short_cuts` maps the route of a header to a function. A read that brings one small frame and nothing else goes to
    the short cut of its route. If there is none, or it returns False, the frame goes to `on_frames`.
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
        self.written = 0  # bytes, including the `queued_bytes` that have not left yet
        self.short_cuts: dict[bytes, ShortCut] = {}
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
        self._bulk: BulkProtocol | None = BulkProtocol(self)
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
        """Return a channel over a connected stream socket, which it owns from now on."""
        channel = cls(on_frames, on_closed, max_bytes, high_water=high_water, on_relieved=on_relieved, runs=runs)
        await channel.connect(sock)
        return channel

    async def connect(self, sock: socket.socket) -> None:
        """Take over a connected stream socket, once; the first frames may come before this returns."""
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
        await self._loop.create_connection(lambda: self, sock=sock)

    def learn(self, frame: Frame, short_cut: ShortCut) -> None:
        """Let later small frames with the route of `frame` take `short_cut`."""
        if not SHORT_CUTS:
            return
        if len(self.short_cuts) >= MAX_SHORT_CUTS:
            self.short_cuts.clear()
        self.short_cuts[bytes(frame.raw[ROUTE])] = short_cut

    # -- sending ---------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether nothing can be written: the channel is closed, or not connected yet."""
        return not self._open

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait here because the other side does not read."""
        return self._outgoing_bytes + (self._transport.get_write_buffer_size() if self._transport else 0)

    @property
    def congested(self) -> bool:
        """Whether more than `high_water` bytes wait for the other side to read."""
        return self._paused or self._outgoing_bytes > self._high_water > 0

    def exceeds(self, limit: int) -> bool:
        """Return whether more than `limit` bytes wait here. Called for each message, so the cheap test comes first."""
        return self._outgoing_bytes > limit or (self._paused and self.queued_bytes > limit)

    def write(self, data: bytes | bytearray) -> None:
        """Queue the bytes of whole frames, and return at once. Raises MessengerClosed if the channel is closed."""
        if not self._open:
            raise MessengerClosed("the channel is closed")
        self.written += len(data)
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)
        if not (self._flush_scheduled or self._receiving):
            self.flush_soon()

    def pass_on(self, raw: bytes) -> bool:
        """Send one small frame without waiting for the end of the turn.

        Return False, and send nothing, if other bytes wait already or the channel is closed.
        """
        if self._outgoing or self._paused or not self._open:
            return False
        self.written += len(raw)
        self._transport.write(raw)  # type: ignore[union-attr]  # it is open
        return True

    def flush_soon(self) -> None:
        """Flush after the callbacks that are scheduled already, so that their writes leave in the same system call."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_as_scheduled)

    def _flush_as_scheduled(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def flush(self) -> None:
        """Hand this turn's writes over to the kernel."""
        outgoing = self._outgoing
        if not outgoing:
            return
        congested = self._on_relieved is not None and self.congested
        self._outgoing, self._outgoing_bytes = [], 0
        if self._open and self._transport is not None:
            self._transport.write(outgoing[0] if len(outgoing) == 1 else b"".join(outgoing))
            if congested and not self.congested and self._on_relieved is not None:
                self._on_relieved()  # the kernel took all bytes at once, so resume_writing will not be called

    async def drain(self) -> None:
        """Wait until all written bytes have left this process; MessengerClosed if the channel closes meanwhile.

        Cancelling it ends the waiting alone: the bytes still leave.
        """
        self.flush()
        await self._writable.wait()
        if self.closed:
            raise MessengerClosed("the channel was closed before everything was sent")

    # -- ending, pausing -------------------------------------------------------------------------------

    def close(self) -> None:
        """Return at once; close after all written bytes have been sent. May be called again."""
        self.flush()
        self._open = False
        if self._transport is not None:
            self._transport.close()

    def fail(self, error: FrameError) -> None:
        """Close at once, without sending the queued bytes: the other side has broken the protocol."""
        error.__traceback__ = None  # its frames hold this channel, and what was read
        self._failure = error
        self._open = False
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Stop reading for now. The kernel's buffer fills up, then the other side's."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- receiving: called by asyncio, and by `BulkProtocol` ------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has all methods, but another base class
        # High water 0 makes "may write again" mean "nothing is left here", which is what drain() waits for.
        self._transport.set_write_buffer_limits(high=self._high_water)
        self._open = True

    def data_received(self, data: bytes) -> None:
        self._receiving = True
        try:
            if (
                not self.reader.is_single(data)
                or (short_cut := self.short_cuts.get(data[ROUTE])) is None
                or not short_cut(data)
            ):
                self._receive(data)
        finally:
            self._receiving = False
            if self._outgoing:
                self.flush()

    def _receive(self, data: bytes) -> None:
        try:
            frames = self.reader.feed(data)
        except FrameError as error:
            self.fail(error)
            return
        if frames:
            self._on_frames(frames)
        if len(data) >= BULK_READ_BYTES:
            self._switch(self._bulk)

    def receive_filled(self, nbytes: int) -> None:
        """Act on `nbytes` bytes that have been read into the reader's buffer (bulk mode)."""
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
        """Leave bulk mode. The reader must not hold a part of a frame."""
        self._switch(self)

    def _switch(self, protocol: asyncio.BaseProtocol | None) -> None:
        if protocol is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.set_protocol(protocol)

    def eof_received(self) -> None:
        """Do nothing: the other side sends no more, and asyncio closes the transport."""

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
        self._release()

    def _release(self) -> None:
        """Cut the reference cycles through this channel. They would keep its buffers, which may hold a large frame,
        until a full collection."""
        self._on_frames = self._on_closed = _ignore
        self._on_relieved = None
        self._bulk = None
        self.short_cuts.clear()


def _ignore(_: object) -> None:
    """Do nothing: the channel is closed."""


class BulkProtocol(asyncio.BufferedProtocol):
    """The protocol of bulk mode: reads into the reader's buffer, and forwards all other events to the channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._reader = channel.reader
        self._small_reads = 0  # in a row

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.room

    def buffer_updated(self, nbytes: int) -> None:
        self._small_reads = self._small_reads + 1 if nbytes <= SMALL_READ_BYTES else 0
        self._channel.receive_filled(nbytes)
        if self._small_reads >= MAX_SMALL_READS and not self._reader.pending:
            self._small_reads = 0
            self._channel.end_bulk()

    def eof_received(self) -> None:
        self._channel.eof_received()

    def pause_writing(self) -> None:
        self._channel.pause_writing()

    def resume_writing(self) -> None:
        self._channel.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel.connection_lost(exc)
