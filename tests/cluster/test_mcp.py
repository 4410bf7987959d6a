"""The MCP SDK's stateful server with four workers: with sticky every session is kept, without it they are lost."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.cluster.clients import Target
from tests.cluster.harness import Launched, Project
from tests.waiting import DEADLINE, until

httpx2 = pytest.importorskip("httpx2", reason="needs mcp 2")
mcp = pytest.importorskip("mcp", reason="needs mcp 2")
streamable_http = pytest.importorskip("mcp.client.streamable_http", reason="needs mcp 2")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="its clients' many loopback addresses are Linux's")

VIAS = pytest.mark.parametrize("via", ["bpf", "acceptor"])
SOURCES = [f"127.0.0.{number}" for number in range(10, 26)]
WORDS = ["one", "two", "three"]

# What a session has been told is in one worker's memory and nowhere else, and so is the session itself.
APP = """
import os
from typing import Any
from mcp.server.mcpserver import Context, MCPServer
from eggcluster import Application

server = MCPServer("memory")
remembered = {}

@server.tool()
async def remember(word: str, ctx: Context) -> dict[str, Any]:
    session = ctx.headers["mcp-session-id"]
    remembered.setdefault(session, []).append(word)
    return {"pid": os.getpid(), "session": session, "words": remembered[session]}

app = Application(server.streamable_http_app())
"""


@asynccontextmanager
async def session(target: Target, source: str) -> AsyncIterator[Any]:
    """A client at an address of its own, with a session of the server (the protocol before 2026-07-28).

    No connection is used twice: only the address tells what belongs together.
    """
    transport = httpx2.AsyncHTTPTransport(local_address=source, limits=httpx2.Limits(max_keepalive_connections=0))
    async with httpx2.AsyncClient(transport=transport, timeout=DEADLINE) as http:
        stream = streamable_http.streamable_http_client(f"http://{target.host}:{target.port}/mcp", http_client=http)
        async with mcp.Client(stream, mode="legacy", read_timeout_seconds=DEADLINE) as client:
            yield client


async def remember(client: Any, words: list[str]) -> list[dict[str, Any]]:
    """Tell the session's worker these words, each in a request; gives its answers."""
    answers = [await client.call_tool("remember", {"word": word}) for word in words]
    return [dict(answer.structured_content) for answer in answers]


def four_workers(project: Project, *arguments: str) -> tuple[Launched, Target]:
    fixed = ("--workers", "4", "--app-close-timeout", "500")
    launched = project.write(app=APP).start(*fixed, *arguments).wait_ready()
    return launched, Target.of(launched)


@VIAS
def test_with_sticky_every_session_is_kept_over_its_requests(project: Project, via: str) -> None:
    _, target = four_workers(project, "--sticky", "--sticky-via", via)

    async def visit(source: str) -> int:
        async with session(target, source) as client:
            answers = await remember(client, WORDS)
        assert answers[-1]["words"] == WORDS
        assert len({answer["session"] for answer in answers}) == 1
        (pid,) = {int(answer["pid"]) for answer in answers}
        return pid

    async def everybody() -> list[int]:
        return list(await asyncio.gather(*map(visit, SOURCES)))

    assert len(set(asyncio.run(everybody()))) == 4


def test_without_sticky_the_workers_do_not_know_each_others_sessions(project: Project) -> None:
    launched, target = four_workers(project)

    async def visit(source: str) -> bool:
        """Whether the session was kept."""
        try:
            async with session(target, source) as client:
                return bool((await remember(client, WORDS))[-1]["words"] == WORDS)
        except* (mcp.MCPError, httpx2.HTTPError):
            pass
        return False

    async def everybody() -> list[bool]:
        return list(await asyncio.gather(*map(visit, SOURCES)))

    kept = asyncio.run(everybody())
    assert kept.count(False) >= len(SOURCES) // 2
    text = " ".join(launched.log.split())  # the library breaks its lines to fit a terminal
    assert "unknown or expired session ID" in text


def test_an_idle_session_does_not_hold_a_reload_until_its_limit(project: Project) -> None:
    """Its stream of events has no end: the library asks whether the server closes."""
    cluster = project.write(app=APP).start("--workers", "1", "--app-close-timeout", "60000").wait_ready()

    def has_a_stream() -> bool:
        status = cluster.status()
        return status is not None and status["workers"][0]["connections"] > 0

    async def idle() -> int:
        async with session(Target.of(cluster), SOURCES[0]) as client:
            await remember(client, ["one"])
            await until(has_a_stream)
            return (await asyncio.to_thread(cluster.command, "reload")).returncode

    assert asyncio.run(idle()) == 0
    assert cluster.close() == 0
    assert "the drain took longer" not in cluster.log
