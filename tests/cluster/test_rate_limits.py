"""`limits` with real workers: never more than the limit, never less, whatever way in, and no waiting for an agent."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.cluster.harness import Launched, Project
from tests.waiting import wait_until

LIMIT = 100
CLIENTS = 8
MODES = ("thread", *(("interpreter",) if sys.version_info >= (3, 14) else ()))  # the ways to share a process
SECONDS = 3.0  # of hammering

Hit = tuple[bool, float, float]  # whether it was admitted, and an instant before and after

SYNC = """
import eggcluster.integrations.limits, time
from limits import parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

kept = storage_from_string("eggcluster://?unavailable={setting}")
limiters = dict(fixed=FixedWindowRateLimiter(kept), moving=MovingWindowRateLimiter(kept))
item = parse("100/second")

def hit(path):
    before = time.monotonic()
    admitted = limiters[path.strip("/")].hit(item, "all")
    after = time.monotonic()
    return f"{{int(admitted)}} {{before}} {{after}}".encode()
"""
WSGI = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [hit(environ["PATH_INFO"])]
"""
ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        text = hit(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text})
"""
ASYNC = (
    (SYNC + ASGI)
    .replace("def hit", "async def hit")
    .replace(" limiters[", " await limiters[")
    .replace("= hit(", "= await hit(")
    .replace("limits.strategies", "limits.aio.strategies")
    .replace('"eggcluster://', '"async+eggcluster://')
)
WAITING = """
import os, time
from eggcluster import Agent

while not os.path.exists("go"):
    time.sleep(0.01)
agent = Agent()
"""
WAYS = {"threads": SYNC + WSGI, "blocked loop": SYNC + ASGI, "coroutines": ASYNC}


def start(project: Project, way: str, setting: str = "refuse", *arguments: str) -> Launched:
    source = WAYS[way].replace("{setting}", setting).replace("{{", "{").replace("}}", "}")
    return project.write(app=source).start("--workers", "4", *arguments).wait_ready()


def hammer(address: str, path: str, end: float) -> list[Hit]:
    """Ask until `end`; return whether each hit was admitted, and between which instants."""
    found = []
    with httpx.Client(base_url=address) as client:
        while time.monotonic() < end:
            admitted, before, after = client.get(path).text.split()
            found.append((admitted == "1", float(before), float(after)))
    return found


def hammered(cluster: Launched, path: str) -> list[Hit]:
    end = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CLIENTS) as clients:
        runs = [clients.submit(hammer, cluster.address, path, end) for _ in range(CLIENTS)]
        return [hit for run in runs for hit in run.result()]


def check_none_refused_in_vain(hits: list[Hit]) -> None:
    """A hit may be refused only if the limit was admitted in the second before it."""
    refused = [(before, after) for admitted, before, after in hits if not admitted]
    assert refused, "there were enough hits to exceed the limit"
    for before, after in refused:
        near = [hit for hit in hits if hit[0] and hit[2] > before - 1.0 and hit[1] < after]
        assert len(near) >= LIMIT, "a hit was refused though there was room"


def admitted(hits: list[Hit]) -> tuple[list[float], list[float]]:
    """The instants before and after admissions, each in order. The n-th admission was not before the n-th of the first,
    and not after the n-th of the second."""
    return sorted(hit[1] for hit in hits if hit[0]), sorted(hit[2] for hit in hits if hit[0])


@pytest.mark.parametrize("way", WAYS)
def test_a_moving_window_is_exact_over_four_workers(project: Project, way: str) -> None:
    hits = hammered(start(project, way), "/moving")
    began, ended = admitted(hits)
    for first, beyond in zip(began, ended[LIMIT:], strict=False):
        assert beyond - first >= 1.0, "more than the limit within a second"
    check_none_refused_in_vain(hits)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", MODES)
def test_workers_in_one_process_count_together_from_the_first_hit_on(project: Project, mode: str, way: str) -> None:
    cluster = start(project, way, "refuse", "--start-mode", mode)
    check_none_refused_in_vain(hammered(cluster, "/moving"))


@pytest.mark.parametrize("way", WAYS)
def test_a_fixed_window_is_exact_over_four_workers(project: Project, way: str) -> None:
    hits = hammered(start(project, way), "/fixed")
    began, ended = admitted(hits)
    for number, beyond in enumerate(ended[::LIMIT]):  # the first hit after so many full windows, or a later one
        assert beyond - began[0] >= number * 1.0, "more than the limit in one of the windows"
    check_none_refused_in_vain(hits)


@contextlib.contextmanager
def without_agent(project: Project, cluster: Launched) -> Iterator[None]:
    """Kill the agent, and let its successor boot no further meanwhile."""
    go = Path(project.folder, "go")
    go.unlink()
    before = wait_until(cluster.agent, "an agent")
    os.kill(before, signal.SIGKILL)
    try:
        yield
    finally:
        go.touch()
    wait_until(lambda: cluster.agent() not in (None, before), "a new agent")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("setting", "answer"), [("serve", "1"), ("refuse", "0")])
def test_while_the_agent_is_replaced_the_setting_answers_at_once(
    project: Project, way: str, setting: str, answer: str
) -> None:
    project.write(agent=WAITING)
    Path(project.folder, "go").touch()
    cluster = start(project, way, setting)
    assert cluster.get("/moving").text.split()[0] == "1"
    with without_agent(project, cluster), httpx.Client(base_url=cluster.address) as client:
        took = []

        def answered() -> bool:
            """The last twenty answers are the setting's."""
            said = []
            for _ in range(20):
                admitted, before, after = client.get("/moving").text.split()
                said.append(admitted)
                took.append(float(after) - float(before))
            return said == [answer] * 20

        wait_until(answered, "only the setting answers")
    assert sorted(took)[len(took) // 2] < 0.5, "it did not wait for the agent"
    wait_until(lambda: [cluster.get("/fixed").text.split()[0] for _ in range(5)] == ["1"] * 5, "it counts again")
