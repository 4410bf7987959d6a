"""A line between two ends in one loop: answers, bounds, and what becomes of it when one of the ends is no more."""

import asyncio
import os
import socket
from typing import Any

import pytest

from eggcluster.errors import LeaderGone, MessageTooLarge, MessengerBusy, MessengerClosed, RemoteError, RequestTimeout
from eggcluster.ipc.direct_connection import SLOW_BYTES, DirectConnection
from eggcluster.ipc.dispatcher import Handlers
from eggcluster.ipc.frame import encode_frame
from eggcluster.ipc.incoming_requests import RequestKey
from eggcluster.model.messages.message import FrameKind, Target
from tests.unit.conftest import Run
from tests.unit.wires import until


class Person:
    """Who sits at one end: what came, and when it ended."""

    def __init__(self) -> None:
        self.handlers = Handlers()
        self.got: list[Any] = []
        self.closed = 0
        self.line: DirectConnection

    async def take(self, sock: socket.socket, **limits: int) -> DirectConnection:
        self.line = await DirectConnection.open(sock, self, self.handlers, **limits)
        return self.line

    def on_message(self, line: DirectConnection, action: str, data: Any) -> None:
        self.got.append((action, data))

    def on_request(self, line: DirectConnection, question: RequestKey, action: str, data: Any) -> bool:
        return False

    def on_closed(self, line: DirectConnection) -> None:
        self.closed += 1


async def pair(**limits: int) -> tuple[Person, Person]:
    a, b = Person(), Person()
    for person, sock in zip((a, b), socket.socketpair(), strict=True):
        await person.take(sock, **limits)
    return a, b


async def one_end() -> tuple[Person, socket.socket]:
    """A line whose other side is the test's own."""
    person = Person()
    ours, theirs = socket.socketpair()
    await person.take(ours)
    return person, theirs


def message(content: Any, kind: FrameKind = FrameKind.MESSAGE, request_id: int = 0) -> bytes:
    return encode_frame(kind, Target.APPS, content, request_id=request_id)


def test_messages_arrive_in_order_and_requests_are_answered(run: Run) -> None:
    async def scene() -> None:
        a, b = await pair()
        b.handlers.add("double", lambda data: data * 2)
        for n in range(3):
            a.line.send("note", n)
        assert await a.line.request("double", 21, 20) == 42
        assert b.got == [("note", 0), ("note", 1), ("note", 2)]

    run(scene())


def test_what_a_handler_raises_is_raised_where_it_was_asked(run: Run) -> None:
    async def scene() -> None:
        a, b = await pair()

        async def fail(data: Any) -> None:
            raise LookupError(f"no {data}")

        b.handlers.add("fail", fail)
        with pytest.raises(RemoteError, match="LookupError: no egg") as caught:
            await a.line.request("fail", "egg", 20)
        assert "raise LookupError" in caught.value.remote_traceback
        with pytest.raises(RemoteError, match='NoHandler: no handler for the request "nothing"'):
            await a.line.request("nothing", None, 20)

    run(scene())


def test_an_answer_that_cannot_travel_is_an_error(run: Run) -> None:
    async def scene() -> None:
        a, b = await pair(max_bytes=1000)
        b.handlers.add("object", lambda data: object())
        b.handlers.add("large", lambda data: bytes(2000))
        for action, kind in (("object", "NotSerializable"), ("large", "MessageTooLarge")):
            with pytest.raises(RemoteError, match=kind):
                await a.line.request(action, None, 20)
        with pytest.raises(MessageTooLarge):
            a.line.send("note", bytes(2000))

    run(scene())


def test_a_request_that_is_given_up_is_cancelled_over_there(run: Run) -> None:
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
            await a.line.request("wait", "timeout", 0.01)
        await until(lambda: ended == ["timeout"])
        asking = asyncio.create_task(a.line.request("wait", "cancel", 20))
        await until(lambda: "cancel" in began)
        asking.cancel()
        await until(lambda: ended == ["timeout", "cancel"])

    run(scene())


def test_when_the_other_side_goes_calls_under_way_fail_and_later_ones_are_not_sent(run: Run) -> None:
    async def scene() -> None:
        a, b = await pair()

        async def wait(data: Any) -> None:
            await asyncio.Event().wait()

        b.handlers.add("wait", wait)
        asking = asyncio.create_task(a.line.request("wait", None, 20))
        await asyncio.sleep(0)
        b.line.close()
        with pytest.raises(LeaderGone):
            await asking
        assert (a.closed, a.line.gone.is_set()) == (1, True)
        with pytest.raises(MessengerClosed):
            await a.line.request("wait", None, 20)
        with pytest.raises(MessengerClosed):
            a.line.send("note", None)
        a.line.send_latest("kind", message(("note", 1)))
        a.line.close()
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
def test_who_sends_nonsense_is_cut_off(run: Run, nonsense: bytes) -> None:
    async def scene() -> None:
        person, other = await one_end()
        with other:
            asking = asyncio.create_task(person.line.request("anything", None, 20))
            await asyncio.sleep(0)
            other.sendall(message(("note", "before")) + nonsense + message(("note", "after")))
            with pytest.raises(LeaderGone):
                await asking
        assert ("note", "after") not in person.got
        assert person.closed == 1

    run(scene())


def test_to_a_reader_who_is_slow_only_the_latest_of_each_kind_goes(run: Run) -> None:
    async def scene() -> None:
        person, other = await one_end()
        reader = Person()
        for n in range(3000):
            for kind in "ab":
                person.line.send_latest(kind, message((kind, [n, bytes(1000)])))
            person.line.channel.flush()
        assert person.line.channel.queued_bytes < SLOW_BYTES + 10_000, "what is posted does not pile up"
        await reader.take(other)
        await until(lambda: reader.got and reader.got[-1][1][0] == 2999)
        numbers = {kind: [data[0] for action, data in reader.got if action == kind] for kind in "ab"}
        for each in numbers.values():
            assert each == sorted(set(each)), "in order, none twice"
            assert (each[0], each[-1]) == (0, 2999)
            assert len(each) < 2999, "it was slow indeed"
        person.line.send_latest("a", message(("a", ["and", "on"])))
        await until(lambda: reader.got[-1] == ("a", ["and", "on"]))

    run(scene())


def test_what_must_not_be_overtaken_is_sent_at_once(run: Run) -> None:
    async def scene() -> None:
        person, other = await one_end()
        reader = Person()
        for n in range(3000):
            person.line.send_latest("a", message(("a", [n, bytes(1000)])))
            person.line.channel.flush()
        person.line.flush_latest()
        person.line.send("after", None)
        await reader.take(other)
        await until(lambda: reader.got and reader.got[-1] == ("after", None))
        assert reader.got[-2][1][0] == 2999

    run(scene())


def test_who_does_not_read_its_answers_is_not_read_either(run: Run) -> None:
    async def scene() -> None:
        asker, answerer = await pair()
        answered = 0

        def answer(data: Any) -> bytes:
            nonlocal answered
            answered += 1
            return bytes(50_000)

        answerer.handlers.add("large", answer)
        asker.line.channel.pause_reading()
        asking = [asyncio.create_task(asker.line.request("large", bytes(1000), 20)) for _ in range(2000)]
        await until(lambda: answerer.line.channel.exceeds(SLOW_BYTES))
        for _ in range(100):
            await asyncio.sleep(0)
        assert answered < 1000, "no more than what was read in one piece"
        asker.line.channel.resume_reading()
        assert len(await asyncio.gather(*asking)) == answered == 2000

    run(scene())


def test_with_much_under_way_in_both_directions_all_is_answered(run: Run) -> None:
    async def scene() -> None:
        ends = await pair()
        for end in ends:
            end.handlers.add("echo", lambda data: data)
        content = bytes(60_000)
        for askers in (ends[:1], ends):
            asking = [end.line.request("echo", content, 10) for end in askers for _ in range(200)]
            assert await asyncio.gather(*asking) == [content] * len(asking)

    run(scene())


def test_a_sender_is_told_when_too_much_waits(run: Run) -> None:
    async def scene() -> None:
        person = Person()
        ours, theirs = socket.socketpair()
        await person.take(ours, max_queue_bytes=100_000)
        with theirs:
            while not person.line.channel.exceeds(100_000):
                person.line.send("note", bytes(10_000))
                person.line.channel.flush()
            with pytest.raises(MessengerBusy):
                person.line.send("note", None)

    run(scene())


def test_the_last_words_of_one_who_has_died_are_heard_even_if_a_write_fails_first(run: Run) -> None:
    async def scene() -> None:
        person, other = await one_end()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        other.sendall(b"".join(message(("note", [n, bytes(1000)])) for n in range(100)))
        # It dies with something unread, so that our next write fails before we have read anything.
        person.line.send("to", "nobody")
        person.line.channel.flush()
        other.close()
        person.line.send("to", "nobody")
        person.line.channel.flush()
        await until(lambda: person.closed)
        assert [data[0] for _, data in person.got] == list(range(100))

    run(scene())


def test_a_line_that_ends_leaves_no_file_descriptor_open(run: Run) -> None:
    async def scene() -> None:
        await end_one("close")  # the loop's own are opened by the first
        before = len(os.listdir("/dev/fd"))
        for end in ("close", "cut", "other side"):
            await end_one(end)
        await until(lambda: len(os.listdir("/dev/fd")) == before)

    async def end_one(end: str) -> None:
        a, b = await pair()
        if end == "cut":
            a.line.fail(ValueError("nonsense"))
        else:
            (a if end == "close" else b).line.close()
        await until(lambda: a.closed and b.closed)

    run(scene())
