"""The parts of a WebSocket that do no I/O: frames, fragments, pings, and the queue."""

import asyncio

import pytest
from websockets.frames import Frame, Opcode

from eggcluster.http.websocket_frames import BINARY, TEXT, FragmentJoiner, Keepalive, message_frame, short_reason
from eggcluster.http.websocket_queue import LIMIT, MessageQueue


@pytest.mark.parametrize("size", [0, 1, 125, 126, 0xFFFF, 0x10000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_frame_is_as_the_library_makes_it(opcode: int, size: int) -> None:
    data = b"x" * size
    expected = Frame(Opcode(opcode), data).serialize(mask=False)
    assert message_frame(opcode, data) == expected
    assert message_frame(opcode, memoryview(data)) == expected  # type: ignore[arg-type]
    assert message_frame(opcode, bytearray(data)) == expected  # type: ignore[arg-type]


def test_a_reason_is_cut_between_characters() -> None:
    assert short_reason("x" * 123) == "x" * 123
    assert short_reason("x" * 124) == "x" * 123
    assert short_reason("é" * 62) == "é" * 61


def test_fragments_become_one_message_with_the_first_ones_opcode() -> None:
    joiner = FragmentJoiner()
    for _ in range(2):
        assert not joiner.has_begun
        joiner.add(BINARY, b"")
        assert joiner.has_begun
        joiner.add(0, b"a")
        joiner.add(0, b"b")
        assert joiner.take() == (BINARY, b"ab")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def after(self, seconds: float) -> float:
        return self.now + seconds if seconds else float("inf")


def test_a_ping_has_its_own_pong_and_the_next_one_comes_later() -> None:
    clock = Clock()
    keepalive = Keepalive(clock.after, 20, 5)
    assert keepalive.due == float("inf")
    keepalive.start()
    assert (keepalive.due, keepalive.awaits_pong) == (120, False)
    first = keepalive.next_ping()
    assert (keepalive.due, keepalive.awaits_pong) == (105, True)
    assert not keepalive.take_pong(b"another")
    clock.now = 103
    keepalive.wait_again()
    assert (keepalive.due, keepalive.awaits_pong) == (108, True)
    assert keepalive.take_pong(first)
    assert (keepalive.due, keepalive.awaits_pong) == (123, False)
    assert not keepalive.take_pong(first)  # a second time
    assert keepalive.next_ping() != first
    assert not keepalive.take_pong(first)


def test_a_ping_without_a_timeout_awaits_no_pong() -> None:
    keepalive = Keepalive(Clock().after, 20, 0)
    keepalive.next_ping()
    assert (keepalive.due, keepalive.awaits_pong) == (120, False)


def queued(queue: MessageQueue, count: int) -> None:
    for number in range(count):
        queue.put({"number": number}, 1000)


def test_a_queue_tells_once_that_there_is_room_again() -> None:
    async def work() -> None:
        calls: list[int] = []
        queue = MessageQueue(asyncio.get_running_loop(), lambda: calls.append(1))
        assert await queue.receive() == {"type": "websocket.connect"}
        count = 0
        while not queue.is_full:
            queued(queue, 1)
            count += 1
        assert count == LIMIT // 1256 + 1
        while not queue.is_empty:
            await queue.receive()
        assert calls == [1]
        queued(queue, 10)
        while not queue.is_empty:
            await queue.receive()
        assert calls == [1]

    asyncio.run(work())


def test_a_queue_keeps_the_first_end_behind_its_messages_and_drops_what_comes_later() -> None:
    async def work() -> None:
        queue = MessageQueue(asyncio.get_running_loop(), lambda: None)
        queued(queue, 100)
        assert queue.is_full
        queue.end(1001, "first")
        queue.end(1002, "second")
        assert queue.has_ended
        assert not queue.is_full  # what comes is dropped
        queued(queue, 1)
        events = [await queue.receive() for _ in range(103)]
        assert [event.get("number") for event in events[1:101]] == list(range(100))
        assert events[101] == events[102] == {"type": "websocket.disconnect", "code": 1001, "reason": "first"}

    asyncio.run(work())


def test_a_receiver_that_is_cancelled_takes_no_message_with_it() -> None:
    async def work() -> None:
        queue = MessageQueue(asyncio.get_running_loop(), lambda: None)
        await queue.receive()
        first, second = (asyncio.ensure_future(queue.receive()) for _ in range(2))
        await asyncio.sleep(0)
        queue.put({"number": 1}, 1)
        first.cancel()
        assert await asyncio.wait_for(second, 5) == {"number": 1}
        waiting = asyncio.ensure_future(queue.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        queue.put({"number": 2}, 1)
        assert await queue.receive() == {"number": 2}

    asyncio.run(work())
