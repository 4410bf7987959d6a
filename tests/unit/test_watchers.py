"""Watchers that are slow, stopped or forgotten: they take bounded memory, give it back, and keep no order out."""

import asyncio
import gc
import json
import select
import socket
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from eggcluster.ipc.frame import Frame, encode_frame
from eggcluster.master.control.clients import MAX_ORDERS, MAX_RUNS, MAX_SILENT, MAX_WATCHERS
from eggcluster.master.events import CloseRequested, ReloadRequested
from eggcluster.master.relay import watchers as module
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.watchers import (
    LINE_OVERHEAD,
    MAX_TEXT,
    MAX_WATCHER_BYTES,
    MAX_WATCHERS_BYTES,
    MessageWatcher,
    Watcher,
    Watchers,
)
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import AGENT
from tests.unit.conftest import Run
from tests.unit.test_control_server import ask, command, controlled
from tests.unit.wires import until

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
LINE = 4096  # bytes, a slack: a queue is full once it has reached its bound


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
def without_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def connect(path: Path, line: bytes) -> Client:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(line)
    await writer.drain()
    return reader, writer


def message(data: Any) -> tuple[Link, Frame]:
    raw = encode_frame(FrameKind.MESSAGE, Target.AGENT, ["note", data])
    return Link(AGENT), Frame(FrameKind.MESSAGE, Target.AGENT, 0, AGENT.pack(), 0, raw)


def shown(piece: bytes) -> list[dict[str, Any]]:
    return [json.loads(line)["progress"] for line in piece.splitlines()]


def test_what_waits_for_one_watcher_is_bounded_and_the_missed_are_counted_where_they_are_missing() -> None:
    async def work() -> None:
        watcher = Watcher()
        watcher.set_share(10_000)
        for number in range(1000):
            watcher.show({"number": number})
        assert 10_000 <= watcher.waiting_bytes < 10_000 + LINE
        first = shown(await watcher.next())
        assert [each["number"] for each in first] == list(range(len(first)))
        assert all("missed" not in each for each in first)
        watcher.show({"number": 1000})
        assert shown(await watcher.next()) == [{"number": 1000, "missed": 1000 - len(first)}]
        assert watcher.waiting_bytes == 0

    asyncio.run(work())


def test_of_a_large_message_only_its_beginning_waits() -> None:
    async def work() -> None:
        watcher = MessageWatcher(payload=True)
        watcher.see(*message("\0" * 10_000_000))
        assert watcher.waiting_bytes < 6 * MAX_TEXT + 500 + LINE_OVERHEAD
        (description,) = shown(await watcher.next())
        assert description["size"] > 10_000_000
        assert len(description["data"]) == MAX_TEXT + 3

    asyncio.run(work())


def test_what_waits_for_all_watchers_is_bounded_and_each_has_its_share() -> None:
    async def work() -> None:
        watchers = Watchers()
        crowd = [MessageWatcher(payload=True) for _ in range(MAX_WATCHERS)]
        seen = message("x" * 200_000)
        for watcher in crowd:
            watchers.add(watcher)
            while not watcher.full:
                watcher.see(*seen)
        assert MAX_WATCHERS_BYTES // 2 < watchers.waiting_bytes < MAX_WATCHERS_BYTES + len(crowd) * LINE
        for watcher in crowd[1:]:
            watchers.remove(watcher)
        while not crowd[0].full:
            crowd[0].see(*seen)
        assert MAX_WATCHER_BYTES <= watchers.waiting_bytes < MAX_WATCHER_BYTES + LINE

    asyncio.run(work())


def test_a_share_that_shrinks_counts_what_it_drops() -> None:
    async def work() -> None:
        watcher = Watcher()
        for number in range(1000):
            watcher.show({"number": number})
        watcher.set_share(5000)
        watcher.set_share(50_000)
        watcher.show({"number": 1000})
        got = shown(await watcher.next())
        assert got[-1] == {"number": 1000, "missed": 1001 - len(got)}

    asyncio.run(work())


def test_the_memory_of_a_stopped_watcher_is_given_back_when_it_goes(
    run: Run, path: Path, without_gc: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops reading, as with Ctrl-Z, and is killed later. Nothing waits for the garbage collector."""
    made: list[weakref.ref[Watcher]] = []

    class Noted(MessageWatcher):
        def __init__(self, payload: bool) -> None:
            super().__init__(payload)
            made.append(weakref.ref(self))

    monkeypatch.setattr("eggcluster.master.control.control_server.MessageWatcher", Noted)
    monkeypatch.setattr(module, "MAX_WATCHER_BYTES", 100_000)

    def full() -> bool:
        watcher = made[0]()
        return watcher is not None and watcher.full

    async def work() -> None:
        async with controlled(path) as master:
            agent, one = await master.wires.agent(), await master.wires.app(1)
            _, writer = await connect(path, b'{"command": "messages", "payload": true}\n')
            cast(asyncio.Transport, writer.transport).pause_reading()
            await until(lambda: bool(made))
            sent = 0
            while not full():
                one.messenger.send_to_agent("note", bytes(20_000))
                sent += 1
                await one.messenger.drain()
            await until(lambda: len(agent.got) == sent)
            writer.transport.abort()
            await until(lambda: made[0]() is None, "the watcher is kept alive")
            assert await ask(path, command("status"))

    run(work())


def test_forgotten_watchers_keep_no_order_out(run: Run, path: Path) -> None:
    async def work() -> None:
        async with controlled(path) as master:
            forgotten = [await connect(path, command("events")) for _ in range(MAX_WATCHERS)]
            await until(lambda: len(master.feed._readers) == MAX_WATCHERS)
            (refusal,) = await ask(path, command("events"))
            assert refusal == {"error": f"{MAX_WATCHERS} clients follow the cluster already; end one of them first"}
            assert await ask(path, command("status")) == [{"done": {"phase": "serving"}}]
            for name, kind in (("reload", ReloadRequested), ("stop", CloseRequested)):
                asking = asyncio.ensure_future(ask(path, command(name)))
                event = await master.inbox.next(None)
                assert isinstance(event, kind)
                event.progress.end()  # type: ignore[union-attr]
                assert await asking == [{"done": True}]
            forgotten[0][1].close()
            await until(lambda: len(master.feed._readers) == MAX_WATCHERS - 1)
            one_more = await connect(path, command("events"))
            await until(lambda: len(master.feed._readers) == MAX_WATCHERS)
            for _, writer in (*forgotten, one_more):
                writer.close()

    run(work())


def test_clients_that_wait_for_runs_keep_no_order_out_and_are_not_dropped_for_another(run: Run, path: Path) -> None:
    async def work() -> None:
        async with controlled(path) as master:
            agent, end = await master.wires.agent(), asyncio.Event()
            asked: list[Any] = []

            async def run_now(data: Any) -> str:
                asked.append(data)
                await end.wait()
                return "ran"

            agent.messenger.internal.on("egg-schedule-now", run_now)
            line = json.dumps({"command": "run-schedule", "schedule": "poll"}).encode() + b"\n"
            waiting = [await connect(path, line) for _ in range(MAX_RUNS)]
            await until(lambda: len(asked) == MAX_RUNS)
            assert asked[0] == ["poll", []]
            told = f"{MAX_RUNS} clients wait for the runs of schedules already; end one of them first"
            assert await ask(path, line) == [{"error": told}]
            for _ in range(MAX_ORDERS + 1):
                assert await ask(path, command("status")) == [{"done": {"phase": "serving"}}]
            waiting[0][1].close()
            await until(lambda: len(master.switchboard._requests) == MAX_RUNS - 1)  # its request is cancelled
            waiting[0] = await connect(path, line)
            await until(lambda: len(asked) == MAX_RUNS + 1)
            end.set()
            for reader, writer in waiting:
                assert json.loads(await reader.readline()) == {"done": "ran"}
                writer.close()

    run(work())


def test_silent_clients_keep_no_order_out(run: Run, path: Path) -> None:
    async def work() -> None:
        async with controlled(path):
            silent = [await connect(path, b"") for _ in range(2 * MAX_SILENT)]
            assert await ask(path, command("status")) == [{"done": {"phase": "serving"}}]
            assert b"too many clients" in await silent[0][0].readline()  # the oldest one makes room
            for _, writer in silent:
                writer.close()

    run(work())


def test_forgotten_orders_keep_no_order_out_and_are_carried_out(run: Run, path: Path) -> None:
    async def work() -> None:
        async with controlled(path) as master:
            forgotten: list[Client] = []
            events: list[ReloadRequested] = []
            for _ in range(MAX_ORDERS + 10):
                forgotten.append(await connect(path, command("reload")))
                event = await master.inbox.next(None)
                assert isinstance(event, ReloadRequested)
                events.append(event)
            first, last = events[0].progress, events[-1].progress
            assert first is not None
            assert last is not None
            await until(lambda: first.abandoned)
            assert b"too many clients" in await forgotten[0][0].readline()
            assert await ask(path, command("status")) == [{"done": {"phase": "serving"}}]
            last.end()
            assert json.loads(await forgotten[-1][0].readline()) == {"done": True}
            for _, writer in forgotten:
                writer.close()

    run(work())


def test_a_client_that_does_not_take_its_answer_is_let_go(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eggcluster.master.control.control_server.SEND_TIMEOUT", 0.05)

    async def work() -> None:
        async with controlled(path) as master:
            master.status = lambda: {"phase": "x" * 10_000_000}  # type: ignore[method-assign]
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.send(command("status"))
                hangup = select.poll()
                hangup.register(client, 0)  # POLLHUP alone
                await until(lambda: hangup.poll(0), "the master keeps the connection")

    run(work())
