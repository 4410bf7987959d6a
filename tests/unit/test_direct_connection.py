"""A direct connection between two ends in one loop: answers, bounds, and the end of one side."""

import asyncio
import os
import socket
from typing import Any

import pytest

from eggcluster.errors import LeaderGone, MessageTooLarge, MessengerBusy, MessengerClosed, RemoteError, RequestTimeout
from eggcluster.ipc import channel
from eggcluster.ipc.direct_connection import SLOW_BYTES, DirectConnection
from eggcluster.ipc.frame import RequestKey, encode_frame
from eggcluster.ipc.handlers import Handlers
from eggcluster.model.messages.message import FrameKind, Target
from tests.unit.conftest import Run
from tests.unit.wires import until


class End:
    """The owner of one end: records messages and closings."""

    def __init__(self) -> None:
        self.handlers = Handlers()
        self.got: list[Any] = []
        self.closed = 0
        self.connection: DirectConnection

    async def take(self, sock: socket.socket, **limits: int) -> DirectConnection:
        self.connection = await DirectConnection.open(sock, self, self.handlers, **limits)
        return self.connection

    def on_message(self, connection: DirectConnection, action: str, data: Any) -> None:
        self.got.append((action, data))

    def on_request(self, connection: DirectConnection, key: RequestKey, action: str, data: Any) -> bool:
        return False

    def on_closed(self, connection: DirectConnection) -> None:
        self.closed += 1


async def pair(**limits: int) -> tuple[End, End]:
    a, b = End(), End()
    for end, sock in zip((a, b), socket.socketpair(), strict=True):
        await end.take(sock, **limits)
    return a, b


async def one_end() -> tuple[End, socket.socket]:
    """Return an end, and the socket of the other side."""
    end = End()
    ours, theirs = socket.socketpair()
    await end.take(ours)
    return end, theirs


def message(content: Any, kind: FrameKind = FrameKind.MESSAGE, request_id: int = 0) -> bytes:
    return encode_frame(kind, Target.APPS, content, request_id=request_id)


def test_messages_arrive_in_order_and_requests_are_answered(run: Run) -> None:
    async def scene() -> None:
        a, b = await pair()
        b.handlers.add("double", lambda data: data * 2)
        for n in range(3):
            a.connection.send("note", n)
        assert await a.connection.request("double", 21, 20) == 42
        assert b.got == [("note", 0), ("note", 1), ("note", 2)]

    run(scene())


def test_with_short_cuts_off_nothing_is_learned(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        a, b = await pair()
        b.handlers.add("double", lambda data: data * 2)
        assert [await a.connection.request("double", n, 20) for n in range(3)] == [0, 2, 4]
        learned.append([len(end.connection.channel.short_cuts) for end in (a, b)])

    learned: list[list[int]] = []
    for on in (True, False):
        monkeypatch.setattr(channel, "SHORT_CUTS", on)
        run(scene())
    assert learned == [[1, 1], [0, 0]]


def test_an_exception_of_a_handler_is_raised_at_the_requester(run: Run) -> None:
    async def scene() -> None:
        a, b = await pair()

        async def fail(data: Any) -> None:
            raise LookupError(f"no {data}")

        b.handlers.add("fail", fail)
        with pytest.raises(RemoteError, match="LookupError: no egg") as caught:
            await a.connection.request("fail", "egg", 20)
        assert "raise LookupError" in caught.value.remote_traceback
        with pytest.raises(RemoteError, match='NoHandler: no handler for the request "nothing"'):
            await a.connection.request("nothing", None, 20)

    run(scene())


def test_an_answer_that_cannot_be_sent_is_an_error(run: Run) -> None:
    async def scene() -> None:
        a, b = await pair(max_bytes=1000)
        b.handlers.add("object", lambda data: object())
        b.handlers.add("large", lambda data: bytes(2000))
        for action, kind in (("object", "NotSerializable"), ("large", "MessageTooLarge")):
            with pytest.raises(RemoteError, match=kind):
                await a.connection.request(action, None, 20)
        with pytest.raises(MessageTooLarge):
            a.connection.send("note", bytes(2000))

    run(scene())


def test_an_abandoned_request_is_cancelled_at_the_other_end(run: Run) -> None:
    async def scene() -> None:
        a, b = await pair()
        began: list[str] = []
        ended: list[str] = []

        async def wait(data: Any) -> None:
            began.append(data)
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(data)

        b.handlers.add("wait", wait)
        with pytest.raises(RequestTimeout, match=r'no answer to "wait" within 0.01s'):
            await a.connection.request("wait", "timeout", 0.01)
        await until(lambda: ended == ["timeout"])
        request = asyncio.create_task(a.connection.request("wait", "cancel", 20))
        await until(lambda: "cancel" in began)
        request.cancel()
        await until(lambda: ended == ["timeout", "cancel"])

    run(scene())


def test_when_the_other_side_closes_pending_requests_fail_and_later_ones_are_not_sent(run: Run) -> None:
    async def scene() -> None:
        a, b = await pair()

        async def wait(data: Any) -> None:
            await asyncio.Event().wait()

        b.handlers.add("wait", wait)
        request = asyncio.create_task(a.connection.request("wait", None, 20))
        await asyncio.sleep(0)
        b.connection.close()
        with pytest.raises(LeaderGone):
            await request
        assert (a.closed, a.connection.gone.is_set()) == (1, True)
        with pytest.raises(MessengerClosed):
            await a.connection.request("wait", None, 20)
        with pytest.raises(MessengerClosed):
            a.connection.send("note", None)
        a.connection.send_latest("kind", message(("note", 1)))
        a.connection.close()
        await until(lambda: b.closed == 1)

    run(scene())


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\xff" * 64,
        message(["an action alone"]),
        message(("an action", 1), FrameKind.EVENT),
        message(("an action", 1), FrameKind.REPORT),
        message("somebody died", FrameKind.LOST),
    ],
    ids=["no frame", "no message", "an event", "a report", "a loss"],
)
def test_a_side_that_breaks_the_protocol_is_disconnected(run: Run, nonsense: bytes) -> None:
    async def scene() -> None:
        end, other = await one_end()
        with other:
            request = asyncio.create_task(end.connection.request("anything", None, 20))
            await asyncio.sleep(0)
            other.sendall(message(("note", "before")) + nonsense + message(("note", "after")))
            with pytest.raises(LeaderGone):
                await request
        assert ("note", "after") not in end.got
        assert end.closed == 1

    run(scene())


def test_a_slow_reader_gets_only_the_latest_frame_of_each_key(run: Run) -> None:
    async def scene() -> None:
        end, other = await one_end()
        reader = End()
        for n in range(3000):
            for kind in "ab":
                end.connection.send_latest(kind, message((kind, [n, bytes(1000)])))
            end.connection.channel.flush()
        assert end.connection.channel.queued_bytes < SLOW_BYTES + 10_000, "the frames do not pile up"
        await reader.take(other)
        await until(lambda: reader.got and reader.got[-1][1][0] == 2999)
        numbers = {kind: [data[0] for action, data in reader.got if action == kind] for kind in "ab"}
        for each in numbers.values():
            assert each == sorted(set(each)), "in order, none twice"
            assert (each[0], each[-1]) == (0, 2999)
            assert len(each) < 2999, "it was slow"
        end.connection.send_latest("a", message(("a", ["and", "on"])))
        await until(lambda: reader.got[-1] == ("a", ["and", "on"]))

    run(scene())


def test_flush_latest_sends_the_held_back_frames_at_once(run: Run) -> None:
    async def scene() -> None:
        end, other = await one_end()
        reader = End()
        for n in range(3000):
            end.connection.send_latest("a", message(("a", [n, bytes(1000)])))
            end.connection.channel.flush()
        end.connection.flush_latest()
        end.connection.send("after", None)
        await reader.take(other)
        await until(lambda: reader.got and reader.got[-1] == ("after", None))
        assert reader.got[-2][1][0] == 2999

    run(scene())


def test_requests_of_a_side_that_does_not_read_its_answers_are_not_read(run: Run) -> None:
    async def scene() -> None:
        asker, answerer = await pair()
        answered = 0

        def answer(data: Any) -> bytes:
            nonlocal answered
            answered += 1
            return bytes(50_000)

        answerer.handlers.add("large", answer)
        asker.connection.channel.pause_reading()
        requests = [asyncio.create_task(asker.connection.request("large", bytes(1000), 20)) for _ in range(2000)]
        await until(lambda: answerer.connection.channel.exceeds(SLOW_BYTES))
        for _ in range(100):
            await asyncio.sleep(0)
        assert answered < 1000, "no more than one read holds"
        asker.connection.channel.resume_reading()
        assert len(await asyncio.gather(*requests)) == answered == 2000

    run(scene())


def test_many_requests_in_both_directions_are_all_answered(run: Run) -> None:
    async def scene() -> None:
        ends = await pair()
        for end in ends:
            end.handlers.add("echo", lambda data: data)
        content = bytes(60_000)
        for askers in (ends[:1], ends):
            requests = [end.connection.request("echo", content, 10) for end in askers for _ in range(200)]
            assert await asyncio.gather(*requests) == [content] * len(requests)

    run(scene())


def test_a_send_raises_when_too_much_waits(run: Run) -> None:
    async def scene() -> None:
        end = End()
        ours, theirs = socket.socketpair()
        await end.take(ours, max_queue_bytes=100_000)
        with theirs:
            while not end.connection.channel.exceeds(100_000):
                end.connection.send("note", bytes(10_000))
                end.connection.channel.flush()
            with pytest.raises(MessengerBusy):
                end.connection.send("note", None)

    run(scene())


def test_messages_of_a_dead_side_are_read_even_if_a_write_fails_first(run: Run) -> None:
    async def scene() -> None:
        end, other = await one_end()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        other.sendall(b"".join(message(("note", [n, bytes(1000)])) for n in range(100)))
        # It dies with something unread, so that our next write fails before we have read anything.
        end.connection.send("to", "nobody")
        end.connection.channel.flush()
        other.close()
        end.connection.send("to", "nobody")
        end.connection.channel.flush()
        await until(lambda: end.closed)
        assert [data[0] for _, data in end.got] == list(range(100))

    run(scene())


def test_a_closed_connection_leaves_no_file_descriptor_open(run: Run) -> None:
    async def scene() -> None:
        await end_one("close")  # the loop's own are opened by the first
        before = len(os.listdir("/dev/fd"))
        for end in ("close", "fail", "other side"):
            await end_one(end)
        # Fewer, if one that an earlier test left to the garbage collector is closed meanwhile.
        await until(lambda: len(os.listdir("/dev/fd")) <= before)

    async def end_one(end: str) -> None:
        a, b = await pair()
        if end == "fail":
            a.connection.fail(ValueError("nonsense"))
        else:
            (a if end == "close" else b).connection.close()
        await until(lambda: a.closed and b.closed)

    run(scene())
