"""Socket.IO with four workers and no message queue: with sticky every session works, without it polling breaks."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.cluster.clients import Target
from tests.cluster.harness import Launched, Project
from tests.waiting import DEADLINE

aiohttp = pytest.importorskip("aiohttp", reason="needs python-socketio[asyncio_client]")
socketio = pytest.importorskip("socketio", reason="needs python-socketio[asyncio_client]")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="its clients' many loopback addresses are Linux's")

VIAS = pytest.mark.parametrize("via", ["bpf", "acceptor"])
SOURCES = [f"127.0.0.{number}" for number in range(10, 50)]
WORDS = ["one", "two", "three"]
POLLING, UPGRADED = ["polling"], ["polling", "websocket"]

# What a session has said is in one worker's memory and nowhere else.
APP = """
import os
import socketio
from eggcluster import Application

sio = socketio.AsyncServer(async_mode="asgi")
heard = {}

@sio.event
async def say(sid, word):
    heard.setdefault(sid, []).append(word)
    await sio.emit("told", word, to=sid)
    return {"pid": os.getpid(), "heard": heard[sid]}

app = Application(socketio.ASGIApp(sio))
"""


@dataclass
class Chatter:
    """One browser: a session from an address of its own."""

    sio: Any
    pids: list[int] = field(default_factory=list)  # of the workers that have answered
    told: list[str] = field(default_factory=list)  # events from the server
    disconnected: int = 0

    async def say(self, words: list[str]) -> list[str]:
        """Say them, one after the other; gives what the session has said so far, as the server knows it."""
        answer: dict[str, Any] = {}
        for word in words:
            answer = await self.sio.call("say", word, timeout=DEADLINE)
            self.pids.append(answer["pid"])
        return list(answer["heard"])

    def count_disconnect(self, reason: str) -> None:
        self.disconnected += 1

    async def wait_told(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while len(self.told) < count:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def chatter(
    target: Target, source: str, transports: list[str], *, reconnection: bool = False
) -> AsyncIterator[Chatter]:
    """A client whose session has begun. No connection is used twice: only the address tells what belongs together."""
    connector = aiohttp.TCPConnector(local_addr=(source, 0), force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        sio = socketio.AsyncClient(http_session=http, reconnection=reconnection, reconnection_delay=0.1)
        chatting = Chatter(sio)
        sio.on("told", chatting.told.append)
        sio.on("disconnect", chatting.count_disconnect)
        await sio.connect(f"http://{target.host}:{target.port}", transports=transports, wait_timeout=DEADLINE)
        try:
            yield chatting
        finally:
            await sio.eio.disconnect(abort=True)  # without waiting for the poll that is open: for 45 s


def four_workers(project: Project, *arguments: str) -> tuple[Launched, Target]:
    # At the end polls are open that no client reads: they are not waited for.
    fixed = ("--workers", "4", "--app-close-timeout", "500")
    launched = project.write(app=APP).start(*fixed, *arguments).wait_ready()
    return launched, Target.of(launched)


@VIAS
def test_with_sticky_every_session_works(project: Project, via: str) -> None:
    _, target = four_workers(project, "--sticky", "--sticky-via", via)

    async def visit(source: str, transports: list[str]) -> tuple[int, str]:
        async with chatter(target, source, transports) as chatting:
            assert await chatting.say(WORDS) == WORDS
            await chatting.wait_told(len(WORDS))
            assert chatting.told == WORDS
            (pid,) = set(chatting.pids)
            return pid, chatting.sio.transport()

    visits = asyncio.run(everybody(visit))
    assert len({pid for pid, _ in visits}) == 4
    assert [transport for _, transport in visits] == ["polling", "websocket"] * 20


async def everybody(visit: Callable[[str, list[str]], Awaitable[Any]]) -> list[Any]:
    """All 40 clients at once: every other one stays with polling, the others change to a WebSocket."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_awaited(visit(source, UPGRADED if number % 2 else POLLING)))
            for number, source in enumerate(SOURCES)
        ]
    return [task.result() for task in tasks]


async def _awaited(visit: Awaitable[Any]) -> Any:
    return await visit


def test_without_sticky_the_workers_do_not_know_each_others_sessions(project: Project) -> None:
    launched, target = four_workers(project)

    async def visit(source: str, transports: list[str]) -> bool:
        """Whether the session worked."""
        try:
            async with asyncio.timeout(3), chatter(target, source, transports) as chatting:
                return await chatting.say(WORDS) == WORDS
        except (socketio.exceptions.SocketIOError, aiohttp.ClientError, TimeoutError):
            return False

    worked = asyncio.run(everybody(visit))
    assert worked[::2].count(False) >= 10, "of 20 that poll"
    assert worked[1::2].count(False) >= 8, "of 20 that change to a WebSocket"
    assert "Invalid session" in launched.log


@VIAS
def test_clients_of_a_killed_worker_come_back_and_the_others_notice_nothing(project: Project, via: str) -> None:
    launched, target = four_workers(project, "--sticky", "--sticky-via", via)
    victim = launched.workers()[2]

    async def live_through_it() -> None:
        async with AsyncExitStack() as stack:
            begun = [
                stack.enter_async_context(
                    chatter(target, source, UPGRADED if number % 2 else POLLING, reconnection=True)
                )
                for number, source in enumerate(SOURCES)
            ]
            chatting = [await each for each in begun]
            for each in chatting:
                await each.say(["before"])
            its_own = [each for each in chatting if each.pids == [victim]]
            others = [each for each in chatting if each.pids != [victim]]
            assert its_own
            assert others
            os.kill(victim, signal.SIGKILL)
            for each in others:
                assert await each.say(["after"]) == ["before", "after"]
            for each in its_own:
                assert await said_again(each) == ["after"]
            assert {each.pids[-1] for each in its_own} == {launched.workers()[2]}
            assert [each.disconnected for each in its_own] == [1] * len(its_own)
            assert [each.disconnected for each in others] == [0] * len(others)

    asyncio.run(live_through_it())


async def said_again(chatting: Chatter) -> list[str]:
    """Wait until the client has come back, and let it say a word in its new session."""
    async with asyncio.timeout(DEADLINE):
        while not (chatting.disconnected and chatting.sio.connected):
            await asyncio.sleep(0.02)
    return await chatting.say(["after"])
