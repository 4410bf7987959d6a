"""Channels over real socket pairs: the writes of one turn leave together, and every write arrives."""

import asyncio
import contextlib
import random
import socket
import time
from typing import Any

import pytest

from eggcluster.errors import FrameError, MessengerClosed
from eggcluster.ipc.channel import BulkProtocol, Channel
from eggcluster.ipc.frame import Frame, encode_frame
from eggcluster.model.messages.message import FrameKind, Target
from tests.unit.conftest import Run
from tests.unit.wires import until

MIB = 1 << 20


class End:
    """One end of a pair, and what came out of it."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.closed: list[FrameError | None] = []
        self.channel: Channel

    async def open(self, sock: socket.socket) -> "End":
        self.channel = await Channel.open(sock, self.frames.extend, self.closed.append, MIB)
        return self


async def pair() -> tuple[End, End]:
    left, right = socket.socketpair()
    return await End().open(left), await End().open(right)


async def half() -> tuple[End, socket.socket]:
    """A channel, and a plain socket that reads only when the test says so."""
    left, right = socket.socketpair()
    right.setblocking(False)
    return await End().open(left), right


def frame(content: Any = None) -> bytes:
    return encode_frame(FrameKind.MESSAGE, Target.ALL, content)


class Counting:
    """A transport that counts what is handed to it."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


def test_the_writes_of_one_turn_leave_in_one_call_and_in_order(run: Run) -> None:
    async def work() -> None:
        left, right = await pair()
        counting = Counting(left.channel._transport)
        left.channel._transport = counting  # type: ignore[assignment]
        sent = [frame(number) for number in range(500)]
        for raw in sent:
            left.channel.write(raw)
        assert counting.writes == 0
        await until(lambda: len(right.frames) == 500)
        assert counting.writes == 1
        assert [frame.raw for frame in right.frames] == sent

    run(work())


def test_entering_and_leaving_bulk_mode_loses_and_reorders_no_frame(run: Run) -> None:
    """A large read switches to the bulk protocol, small ones back to the channel."""
    rolls = random.Random(2026)

    async def work() -> None:
        left, right = await pair()
        sent: list[bytes] = []
        modes = set()
        for _ in range(20):
            for size in rolls.choices((0, 10, 5_000, 20_000, 300_000), k=6):
                sent.append(frame([len(sent), rolls.randbytes(size)]))
                left.channel.write(sent[-1])
            await until(lambda: len(right.frames) == len(sent))
            modes.add(type(right.channel._transport.get_protocol()))  # type: ignore[union-attr]
            for _ in range(rolls.randrange(8)):
                sent.append(frame(len(sent)))
                left.channel.write(sent[-1])
                await until(lambda: len(right.frames) == len(sent))
                modes.add(type(right.channel._transport.get_protocol()))  # type: ignore[union-attr]
        assert [bytes(frame.raw) for frame in right.frames] == sent
        assert modes == {BulkProtocol, Channel}
        left.channel.close()
        await until(lambda: right.closed)
        assert right.closed == [None]

    run(work())


def test_the_end_and_garbage_are_reported_in_bulk_mode_too(run: Run) -> None:
    async def work() -> None:
        for last in (b"", b"\xff" * 30):
            left, right = await half()
            right.setblocking(True)
            await asyncio.to_thread(right.sendall, frame(bytes(MIB - 100)) * 3)
            await until(lambda end=left: len(end.frames) == 3)  # type: ignore[misc]
            assert type(left.channel._transport.get_protocol()) is BulkProtocol  # type: ignore[union-attr]
            right.sendall(last + frame(bytes(100))[:50])
            right.close()
            await until(lambda end=left: end.closed)  # type: ignore[misc]
            assert isinstance(left.closed[0], FrameError) if last else left.closed == [None]

    run(work())


def test_writes_while_frames_are_received_leave_in_one_call(run: Run) -> None:
    async def work() -> None:
        left, right = await half()
        counting = Counting(left.channel._transport)
        left.channel._transport = counting  # type: ignore[assignment]
        left.channel._on_frames = lambda frames: [left.channel.write(frame(number)) for number in range(3)]  # type: ignore
        left.channel.data_received(frame())
        assert counting.writes == 1
        assert right.recv(1000) == b"".join(map(frame, range(3)))
        right.close()

    run(work())


def test_a_write_before_a_scheduled_flush_leaves_with_it(run: Run) -> None:
    async def work() -> None:
        left, right = await half()
        asyncio.get_running_loop().call_soon(left.channel.write, frame("woken"))
        left.channel.flush_soon()
        await asyncio.sleep(0)
        assert right.recv(1000) == frame("woken")
        right.close()

    run(work())


def test_drain_waits_until_the_other_side_has_room_for_all(run: Run) -> None:
    async def work() -> None:
        left, right = await half()
        total = 0
        for _ in range(8):
            left.channel.write(raw := frame(b"x" * MIB))
            total += len(raw)
        draining = asyncio.ensure_future(left.channel.drain())
        await asyncio.sleep(0.02)
        assert not draining.done()
        assert 0 < left.channel.queued_bytes <= total
        read = 0
        while read < total:
            read += len(await asyncio.get_running_loop().sock_recv(right, MIB))
        await draining
        assert left.channel.queued_bytes == 0
        right.close()

    run(work())


def test_drain_of_few_bytes_returns_at_once_and_leaves_nothing(run: Run) -> None:
    async def work() -> None:
        left, right = await half()
        left.channel.write(frame("hello"))
        await left.channel.drain()
        assert left.channel.queued_bytes == 0
        assert right.recv(1000) == frame("hello")
        right.close()

    run(work())


def test_drain_raises_when_the_other_side_closes(run: Run) -> None:
    async def work() -> None:
        left, right = await half()
        left.channel.write(frame(b"x" * 8 * MIB))
        draining = asyncio.ensure_future(left.channel.drain())
        await asyncio.sleep(0)
        right.close()
        with pytest.raises(MessengerClosed):
            await draining

    run(work())


def test_closing_sends_all_writes_and_is_reported_once_at_both_ends(run: Run) -> None:
    async def work() -> None:
        left, right = await pair()
        left.channel.write(frame("last words"))
        left.channel.close()
        left.channel.close()
        await until(lambda: left.closed and right.closed)
        assert [f.raw for f in right.frames] == [frame("last words")]
        assert (left.closed, right.closed) == ([None], [None])

    run(work())


def test_nothing_can_be_written_to_a_closed_channel(run: Run) -> None:
    async def work() -> None:
        left, right = await pair()
        left.channel.close()
        assert left.channel.closed
        with pytest.raises(MessengerClosed):
            left.channel.write(frame())
        await until(lambda: right.channel.closed)
        with pytest.raises(MessengerClosed):
            right.channel.write(frame())

    run(work())


def test_garbage_closes_the_channel_and_frames_before_it_count(run: Run) -> None:
    async def work() -> None:
        left, right = await half()
        right.send(frame(1))
        await until(lambda: left.frames)
        right.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        await until(lambda: left.closed)
        (error,) = left.closed
        assert isinstance(error, FrameError)
        assert len(left.frames) == 1
        with contextlib.suppress(ConnectionResetError):
            assert right.recv(10) == b""
        right.close()

    run(work())


def test_a_failed_channel_closes_without_sending_queued_bytes(run: Run) -> None:
    async def work() -> None:
        left, right = await half()
        left.channel.write(frame("never"))
        left.channel.fail(FrameError("no"))
        await until(lambda: left.closed)
        assert str(left.closed[0]) == "no"
        assert right.recv(100) == b""
        right.close()

    run(work())


def test_queued_bytes_costs_the_same_however_much_is_queued(run: Run) -> None:
    """The master asks before each write: 40,000 small messages of one turn take seconds if it counts them anew."""

    async def work() -> None:
        left, _right = await pair()
        raw = frame()
        began = time.process_time()
        for written in range(40_000):
            assert left.channel.queued_bytes == written * len(raw)
            left.channel.write(raw)
        assert time.process_time() - began < 2
        left.channel.flush()

    run(work())
