"""Streams without end, and endings that go wrong: neither holds a reload up, and what went wrong is told."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from eggcluster.kernel.process_tree import is_running
from tests.cluster.harness import AGENT, Launched, Project
from tests.waiting import DEADLINE, wait_until

APP = """
import asyncio, os, signal
from pathlib import Path
from eggcluster import Application

async def api(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await end_lifespan()
        mark("lifespan")
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d\\n" % app.slot, "more_body": True})
    await stream(scope, send)
    await send({"type": "http.response.body", "body": b"bye"})

async def end_lifespan():
    pass

async def stream(scope, send):
    while not Path("released").exists():
        await send({"type": "http.response.body", "body": b"tick\\n", "more_body": True})
        await asyncio.sleep(0.02)

def mark(word):
    with open("closing", "a") as file:
        print(app.slot, app.generation, word, file=file)

app = Application(api)

@app.on_close
def closed():
    mark("on_close")
"""

WAYS = {
    "the SIGTERM handler's owner": """
async def stream(scope, send):
    while not signal.getsignal(signal.SIGTERM).__self__.should_exit:
        await asyncio.sleep(0.02)
""",
    "app.closing": """
async def stream(scope, send):
    await app.closing
""",
    "the request's state": """
async def stream(scope, send):
    closing = scope["state"]["eggcluster_closing"]
    assert closing is app.closing
    await asyncio.wait_for(closing, 1000)
""",
    "a plain function": """
async def stream(scope, send):
    await asyncio.to_thread(app.closing.wait, 1000)
""",
}

WSGI = """
from eggcluster import Application

def wsgi(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain")])
    yield b"%d\\n" % app.slot
    environ["eggcluster.closing"].wait(1000)
    yield b"bye"

app = Application(wsgi)
"""

SSE = """
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.routing import Route
from eggcluster import Application
import asyncio

async def ticks():
    while True:
        yield {"data": "tick"}
        await asyncio.sleep(0.05)

async def events(request):
    return EventSourceResponse(ticks())

app = Application(Starlette(routes=[Route("/", events)]))
"""


@contextmanager
def streams(cluster: Launched) -> Iterator[dict[int, Iterator[str]]]:
    """One open stream at each slot, by the slot's number, which is its first line."""
    with ExitStack() as stack:
        found: dict[int, Iterator[str]] = {}

        def each_has_one() -> bool:
            response = stack.enter_context(httpx.stream("GET", cluster.address, timeout=DEADLINE))
            lines = response.iter_lines()
            found[int(next(lines))] = lines
            return len(found) == len(cluster.workers())

        wait_until(each_has_one, "a stream at each worker")
        yield found


def marks(folder: Path) -> list[str]:
    path = folder / "closing"
    return path.read_text().splitlines() if path.exists() else []


def test_endless_streams_hold_no_slot_up_but_their_own(project: Project) -> None:
    cluster = project.write(app=APP, agent=AGENT).start("-w", "3", "--app-close-timeout", "60000").wait_ready()
    olds = cluster.workers()
    with streams(cluster):
        cluster.signal(signal.SIGHUP)
        wait_until(lambda: not set(olds.values()) & set(cluster.workers().values()), "every slot has its new worker")
        assert len(cluster.workers()) == 3
        assert all(is_running(pid) for pid in olds.values()), "the old ones drain side by side"
        assert "reload done" not in cluster.log
        (project.folder / "released").touch()
        cluster.wait_log("reload done")
    words = [f"{slot} 1 {word}" for slot in (1, 2, 3) for word in ("lifespan", "on_close")]
    assert sorted(marks(project.folder)) == words


def test_no_more_old_workers_drain_than_may(project: Project) -> None:
    cluster = project.write(app=APP, agent=AGENT)
    launched = cluster.start("-w", "2", "--app-close-timeout", "60000", "--max-draining", "1").wait_ready()
    olds = launched.workers()
    with streams(launched):
        launched.signal(signal.SIGHUP)
        wait_until(lambda: launched.workers()[1] != olds[1], "the first slot has its new worker")
        assert launched.workers()[2] == olds[2]
        (project.folder / "released").touch()
        launched.wait_log("reload done")
    assert launched.workers()[2] != olds[2]


@pytest.mark.parametrize("mode", ["process", "thread"])
@pytest.mark.parametrize("way", WAYS)
def test_a_stream_that_asks_whether_its_worker_closes_ends_in_order(project: Project, way: str, mode: str) -> None:
    project.write(app=APP + WAYS[way], agent=AGENT)
    arguments = ("-w", "2", "--app-close-timeout", "60000", "--start-mode", mode)
    cluster = project.start(*arguments).wait_ready()
    with streams(cluster) as found:
        answer = cluster.command("reload")
        assert answer.returncode == 0, answer
        for lines in found.values():
            assert list(lines) == ["bye"]


def test_a_wsgi_stream_finds_the_event_in_its_environ(project: Project) -> None:
    cluster = project.write(app=WSGI).start("-w", "1", "--app-close-timeout", "60000").wait_ready()
    with streams(cluster) as found:
        assert cluster.command("reload").returncode == 0
        assert list(found[1]) == ["bye"]


def test_streams_of_sse_starlette_end_when_the_worker_closes(project: Project) -> None:
    pytest.importorskip("sse_starlette")
    cluster = project.write(app=SSE).start("-w", "2", "--app-close-timeout", "60000").wait_ready()
    with ExitStack() as stack:
        found = [stack.enter_context(httpx.stream("GET", cluster.address, timeout=DEADLINE)) for _ in range(6)]
        lines = [each.iter_lines() for each in found]
        assert {next(each) for each in lines} == {"data: tick"}
        answer = cluster.command("reload")
        assert answer.returncode == 0, answer
        for each in lines:  # it ends its streams in the middle, so that a client connects again
            with pytest.raises(httpx.RemoteProtocolError):
                list(each)
    assert cluster.close() == 0
    assert "the drain took longer" not in cluster.log
    assert "ERROR" not in cluster.log


# -- endings that go wrong -------------------------------------------------------------------------------------

BROKEN_DRAIN = """
@app.on_server
def sabotage(server):
    def fail():
        raise OSError("no drain")
    server.close = fail
"""


def test_a_drain_that_raises_ends_neither_lifespan_nor_on_close_and_the_reload_says_so(project: Project) -> None:
    cluster = project.write(app=APP + BROKEN_DRAIN, agent=AGENT).start("-w", "1").wait_ready()
    cluster.allows_traceback = True
    old = cluster.workers()[1]
    answer = cluster.command("reload")
    assert answer.returncode == 0
    lines = answer.stdout.splitlines()
    assert f"app_worker#1:{old} failed while closing (code: 1, signal: None)" in lines
    assert lines[-1] == f"reload done, but not closed in order: app_worker#1:{old}"
    assert marks(project.folder) == ["1 1 lifespan", "1 1 on_close"]
    assert "closing: the drain failed" in cluster.log
    assert "OSError: no drain" in cluster.log
    assert lines[-1] in cluster.log


def test_a_lifespan_that_hangs_does_not_end_the_turn_of_on_close_and_the_reload_says_so(project: Project) -> None:
    hangs = "async def end_lifespan(): await asyncio.sleep(1000)\n"
    launched = project.write(app=APP + hangs, agent=AGENT).start("-w", "1", "--app-close-timeout", "1000").wait_ready()
    old = launched.workers()[1]
    answer = launched.command("reload")
    assert answer.returncode == 0
    assert f"app_worker#1:{old} did not close in order, it was killed" in answer.stdout
    assert marks(project.folder) == ["1 1 on_close"]
    assert "on_close begins beside it" in launched.log


def test_an_application_that_cancels_every_task_it_finds_is_closed_all_the_same(project: Project) -> None:
    cancels = """
@app.on_close
async def cancel_everything():
    for task in asyncio.all_tasks():
        task.cancel()
    mark("cancelled")
"""
    cluster = project.write(app=APP + cancels, agent=AGENT).start("-w", "1").wait_ready()
    cluster.allows_traceback = True
    assert cluster.command("reload").returncode == 0
    assert marks(project.folder)[:2] == ["1 1 lifespan", "1 1 cancelled"]
