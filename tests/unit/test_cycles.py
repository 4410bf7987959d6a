"""The master's frequent work leaves no reference cycles: memory is given back at once, not at the next full collection.

What is found is counted with the garbage collector disabled meanwhile; a cycle for each round would be ROUNDS objects.
"""

import asyncio
import gc
import socket
import weakref
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from eggcluster.ipc.frame import FrameReader, encode_frame
from eggcluster.master.events import CloseRequested, Inbox
from eggcluster.master.relay.child_request import ask_child
from eggcluster.master.relay.link import Link
from eggcluster.model.lives.worker import AppWorker
from eggcluster.model.messages.begun import Begun
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import AGENT
from tests.unit.conftest import Run, in_a_loop_of
from tests.unit.test_control_server import command, controlled
from tests.unit.wires import Wires, until

ROUNDS = 200


@pytest.fixture
def run() -> Iterator[Run]:
    """The master runs in uvloop. (The transports of the standard library's loop are cycles themselves.)"""
    yield from in_a_loop_of(uvloop.new_event_loop)


Round = Callable[[int], Awaitable[Any]]


@pytest.fixture(autouse=True)
def without_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def check(work: Round) -> None:
    """Do the work ROUNDS times; it must leave less than one object each that only a collection gives back."""
    for number in range(5):
        await work(number)
    await asyncio.sleep(0)
    gc.collect()
    for number in range(ROUNDS):
        await work(number)
    await asyncio.sleep(0)
    assert gc.collect() < ROUNDS


@pytest.mark.parametrize("size", [1, 100_000])
def test_messages_and_requests(run: Run, size: int) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        agent.messenger.on("double", lambda data: 2 * data)
        data = bytes(size)

        async def message(number: int) -> None:
            one.messenger.send_to_agent("note", data)
            await until(lambda: bool(agent.got))
            agent.got.clear()

        async def request(number: int) -> None:
            await one.messenger.request("double", data, to="agent")

        async def lost(number: int) -> None:
            one.messenger.send_to("app#2", "note", data)
            wires.switchboard._router.kept.clear()
            await one.messenger.drain()

        for each in (message, request, lost):
            await check(each)

    run(work())


def test_requests_of_the_master_and_to_it(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent = await wires.agent()
        agent.messenger.internal.on("egg-schedules", lambda data: data)

        async def own(number: int) -> None:
            await ask_child(wires.switchboard, AGENT, "egg-schedules")

        async def status(number: int) -> None:
            await agent.messenger.request("status", to="master")

        async def report(number: int) -> None:
            agent.write(FrameKind.REPORT, Target.ADDRESS, ["journal", {}])
            await until(lambda: bool(wires.reports))
            wires.reports.clear()

        for each in (own, status, report):
            await check(each)

    run(work())


def test_the_inbox_with_and_without_an_event(run: Run) -> None:
    async def work() -> None:
        inbox = Inbox()

        async def late(number: int) -> None:
            assert await inbox.next(asyncio.get_running_loop().time() + 0.0001) is None

        async def event(number: int) -> None:
            asyncio.get_running_loop().call_soon(inbox.put, CloseRequested("test"))
            assert await inbox.next(None) is not None

        await check(late)
        await check(event)

    run(work())


@pytest.mark.parametrize("name", ["status", "dance", "events"])
def test_clients_of_the_control_socket(run: Run, tmp_path: Path, name: str) -> None:
    path = tmp_path / "control.sock"

    async def work() -> None:
        async with controlled(path) as master:

            async def client(number: int) -> None:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.setblocking(False)
                    loop = asyncio.get_running_loop()
                    await loop.sock_connect(sock, str(path))
                    await loop.sock_sendall(sock, command(name))
                    if name == "events":
                        await until(lambda: bool(master.feed._readers))
                        sock.close()
                        await until(lambda: not master.feed._readers)
                    else:
                        assert await loop.sock_recv(sock, 4096)

            await check(client)

    run(work())


@pytest.mark.parametrize("dies", [True, False], ids=["dies in the middle of a large frame", "breaks the protocol"])
def test_what_a_child_sent_is_given_back_when_its_channel_ends(run: Run, dies: bool) -> None:
    async def work() -> None:
        wires = Wires()
        worker = AppWorker(1, 1, 0, 60)
        ours, theirs = socket.socketpair()
        link = await wires.switchboard.connect(ours, worker)
        frame = encode_frame(FrameKind.MESSAGE, Target.AGENT, ["note", bytes(1_000_000)], source=link.packed)
        theirs.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(theirs, frame[:-1] if dies else b"\xff" * 24)
        reader = await _reader_of(link, pending=dies)
        theirs.close()
        await until(link.gone.is_set)
        wires.switchboard.disconnect(worker, Begun())
        del link
        await until(lambda: reader() is None, "its reader is kept")

    run(work())


async def _reader_of(link: Link, *, pending: bool) -> "weakref.ref[FrameReader]":
    """The link's reader, once it holds a part of a frame."""
    reader = link.opened.reader
    await until(lambda: reader.pending or not pending)
    return weakref.ref(reader)
