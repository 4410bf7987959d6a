"""`limits` with real workers: never more than the limit, never less, whatever way in, and no waiting for an agent."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.cluster.harness import Launched, Project
from tests.waiting import wait_until

LIMIT = 100
CLIENTS = 8
SECONDS = 3.0  # of hammering

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
WAYS = {"threads": SYNC + WSGI, "blocked loop": SYNC + ASGI, "coroutines": ASYNC}


def start(project: Project, way: str, setting: str = "refuse", *arguments: str) -> Launched:
    source = WAYS[way].replace("{setting}", setting).replace("{{", "{").replace("}}", "}")
    return project.write(app=source).start("--workers", "4", *arguments).wait_ready()


def hammer(address: str, path: str, end: float) -> list[tuple[bool, float, float]]:
    """Ask until `end`; return whether each hit was admitted, and between which instants."""
    found = []
    with httpx.Client(base_url=address) as client:
        while time.monotonic() < end:
            admitted, before, after = client.get(path).text.split()
            found.append((admitted == "1", float(before), float(after)))
    return found


def hammered(cluster: Launched, path: str) -> list[tuple[bool, float, float]]:
    end = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CLIENTS) as clients:
        runs = [clients.submit(hammer, cluster.address, path, end) for _ in range(CLIENTS)]
        return [hit for run in runs for hit in run.result()]


@pytest.mark.parametrize("way", WAYS)
def test_a_moving_window_is_exact_over_four_workers(project: Project, way: str) -> None:
    hits = hammered(start(project, way), "/moving")
    admitted = sorted((before, after) for admitted, before, after in hits if admitted)
    assert len(hits) > 5 * LIMIT, "there were enough to exceed it"
    # Each was admitted somewhere between its two instants, so these two are more than a second apart for certain only
    # if the later one ended more than a second after the earlier one began.
    for (began, _), (_, ended) in zip(admitted, sorted(admitted, key=lambda each: each[1])[LIMIT:], strict=False):
        assert ended - began > 1.0, "more than the limit within a second"
    refused = [(before, after) for admitted, before, after in hits if not admitted]
    for before, after in refused:
        near = [each for each in admitted if each[1] > before - 1.0 and each[0] < after]
        assert len(near) >= LIMIT, "a hit was refused though there was room"


@pytest.mark.parametrize("way", WAYS)
def test_a_fixed_window_admits_its_limit_and_no_more(project: Project, way: str) -> None:
    hits = hammered(start(project, way), "/fixed")
    admitted = sorted(before for admitted, before, _ in hits if admitted)
    assert len(hits) > 5 * LIMIT
    windows = len(admitted) // LIMIT
    assert windows >= SECONDS - 1
    for number in range(windows - 1):  # each window begins with its first hit and lasts for a second
        first, following = admitted[number * LIMIT], admitted[(number + 1) * LIMIT]
        assert following - first > 0.9, "two windows' worth within one"
    assert len(admitted) <= (windows + 1) * LIMIT


@contextlib.contextmanager
def without_agent(cluster: Launched) -> Iterator[None]:
    """Keep the agent away: a stopped process is no longer there for the workers once it is killed."""
    before = wait_until(cluster.agent, "an agent")
    os.kill(before, signal.SIGKILL)
    yield
    wait_until(lambda: cluster.agent() not in (None, before), "a new agent")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("setting", "answer"), [("serve", "1"), ("refuse", "0")])
def test_while_the_agent_is_replaced_the_setting_answers_at_once(
    project: Project, way: str, setting: str, answer: str
) -> None:
    project.write(agent="import time\ntime.sleep(1.5)\nfrom eggcluster import Agent\nagent = Agent()\n")
    cluster = start(project, way, setting)
    assert cluster.get("/moving").text.split()[0] == "1"
    with without_agent(cluster), httpx.Client(base_url=cluster.address) as client:
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
    assert sorted(took)[len(took) // 2] < 0.1
    wait_until(lambda: [cluster.get("/fixed").text.split()[0] for _ in range(5)] == ["1"] * 5, "it counts again")
