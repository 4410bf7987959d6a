"""`ClusterManager`: what one worker does with rooms, callbacks and disconnects holds for the clients of all workers."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.cluster.harness import TEMPLATES, Launched, Project
from tests.waiting import DEADLINE, until

pytest.importorskip("aiohttp", reason="needs python-socketio[asyncio_client]")
socketio = pytest.importorskip("socketio", reason="needs python-socketio[asyncio_client]")

WORKERS = 4
MODES = [
    "--start-mode process",
    *(["--preload"] if TEMPLATES else []),
    *(["--start-mode interpreter"] if sys.version_info >= (3, 14) else []),
]

APP = """
import socketio
from eggcluster import Application
from eggcluster.integrations.socketio import ClusterManager

sio = socketio.AsyncServer(async_mode="asgi", client_manager=ClusterManager())

@sio.event
async def where(sid):
    return app.slot

@sio.event
async def enter(sid, other, room):
    await sio.enter_room(other, room)

@sio.event
async def tell(sid, room, data):
    await sio.emit("told", data, room=room)

@sio.event
async def ask(sid, other, question):
    return await sio.call("asked", question, to=other)

@sio.event
async def drop(sid, other):
    await sio.disconnect(other)

@sio.event
async def through_agent(sid, text):
    app.messenger.send_to_agent("tell", text)

app = Application(socketio.ASGIApp(sio))
"""
AGENT = """
from eggcluster import Agent
from eggcluster.integrations.socketio import ClusterManager

agent = Agent()
manager = ClusterManager(write_only=True)

@agent.messenger.on("tell")
async def tell(text):
    await manager.emit("told", text, namespace="/")
"""

Work = Callable[[list["Member"]], Awaitable[None]]


class Member:
    """A client, connected to one of the workers by a WebSocket."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncClient(reconnection=False)
        self.told: list[Any] = []
        self.sio.on("told", self.told.append)
        self.sio.on("asked", lambda question: f"{question} {self.sid}")

    @property
    def sid(self) -> str:
        return str(self.sio.get_sid())

    async def ask(self, event: str, *data: Any) -> Any:
        return await self.sio.call(event, data, timeout=DEADLINE)


async def join(cluster: Launched, stack: AsyncExitStack) -> list[Member]:
    """Clients, one for each worker: connections are spread over the workers."""
    found: dict[int, Member] = {}
    async with asyncio.timeout(DEADLINE):
        while len(found) < WORKERS:
            member = Member()
            await member.sio.connect(cluster.address, transports=["websocket"], wait_timeout=DEADLINE)
            stack.push_async_callback(member.sio.disconnect)
            found.setdefault(await member.ask("where"), member)
    return list(found.values())


def with_members(project: Project, work: Work, *arguments: str) -> None:
    started = project.write(app=APP, agent=AGENT).start("--workers", str(WORKERS), *arguments).wait_ready()

    async def live() -> None:
        async with AsyncExitStack() as stack:
            await work(await join(started, stack))

    asyncio.run(live())


@pytest.mark.parametrize("mode", MODES)
def test_all_clients_are_told_in_order_each_once(project: Project, mode: str) -> None:
    async def work(members: list[Member]) -> None:
        expected = [*range(20), {"a": [None, 1.5]}, b"\x00\xff"]
        for data in expected:
            await members[0].ask("tell", None, data)
        for member in members:
            await until(lambda member=member: len(member.told) >= len(expected), "all is told")  # type: ignore[misc]
            assert member.told == expected

    with_members(project, work, *mode.split())


def test_a_room_has_clients_of_several_workers(project: Project) -> None:
    async def work(members: list[Member]) -> None:
        for other in members[1:3]:
            await members[0].ask("enter", other.sid, "room")  # in a third worker's name
        await members[0].ask("tell", "room", "inside")
        await members[0].ask("tell", None, "everywhere")
        await until(lambda: all("everywhere" in member.told for member in members), "all is told")
        both = ["inside", "everywhere"]
        assert [member.told for member in members] == [["everywhere"], both, both, ["everywhere"]]

    with_members(project, work)


def test_a_client_of_another_worker_answers_and_can_be_disconnected(project: Project) -> None:
    async def work(members: list[Member]) -> None:
        asking, other, *_ = members
        assert await asking.ask("ask", other.sid, "well?") == f"well? {other.sid}"
        await asking.ask("drop", other.sid)
        await until(lambda: not other.sio.connected, "it is disconnected")
        assert asking.sio.connected

    with_members(project, work)


def test_the_agent_emits_to_all(project: Project) -> None:
    async def work(members: list[Member]) -> None:
        await members[0].ask("through_agent", "from the agent")
        await until(lambda: all(member.told == ["from the agent"] for member in members), "all are told")

    with_members(project, work)
