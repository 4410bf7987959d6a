"""`eggcluster://` beside Redis' storage: both count the same hits, of 8 clients at 4 workers, and admit as many.

A hit asks both storages, one after the other. A round has a key of its own, and ends when both refuse every client. One
that has taken less than the window's second shows what each admits within one window.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.cluster.harness import Project
from tests.cluster.surroundings import redis_server
from tests.cluster.test_rate_limits import ASGI, CLIENTS, LIMIT, WSGI
from tests.waiting import wait_until

ROUNDS = 3

SYNC = """
import eggcluster.integrations.limits, os, time
from limits import parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

OURS = storage_from_string("eggcluster://")
REDIS = storage_from_string(os.environ["REDIS_URL"])
STRATEGIES = dict(fixed=FixedWindowRateLimiter, moving=MovingWindowRateLimiter)
LIMITERS = {name: (strategy(OURS), strategy(REDIS)) for name, strategy in STRATEGIES.items()}
item = parse("100/second")

def hit(path):
    _, strategy, key = path.split("/")
    ours, redis = LIMITERS[strategy]
    before = time.monotonic()
    said = [int(ours.hit(item, key)), int(redis.hit(item, key))]
    return f"{said[0]} {said[1]} {before} {time.monotonic()}".encode()
"""
ASYNC = (
    (SYNC + ASGI)
    .replace("def hit", "async def hit")
    .replace("int(ours", "int(await ours")
    .replace("int(redis", "int(await redis")
    .replace("= hit(", "= await hit(")
    .replace("limits.strategies", "limits.aio.strategies")
    .replace('"eggcluster://', '"async+eggcluster://')
    .replace('os.environ["REDIS_URL"]', '"async+" + os.environ["REDIS_URL"], implementation="redispy"')
)
WAYS = {"threads": SYNC + WSGI, "blocked loop": SYNC + ASGI, "coroutines": ASYNC}


class Answer(NamedTuple):
    """What the storages say to one hit: whether each admits it, and an instant before and after."""

    ours: bool
    redis: bool
    before: float
    after: float


class Round(NamedTuple):
    """How many hits each storage has admitted, and how many seconds the round has taken."""

    ours: int
    redis: int
    seconds: float


def hit_until_refused(client: httpx.Client, path: str) -> list[Answer]:
    """Hit until both storages refuse, or more often than all clients may."""
    found: list[Answer] = []
    while len(found) <= LIMIT:
        ours, redis, before, after = client.get(path).text.split()
        found.append(Answer(ours == "1", redis == "1", float(before), float(after)))
        if not found[-1].ours and not found[-1].redis:
            break
    return found


def play(clients: list[httpx.Client], path: str) -> Round:
    with ThreadPoolExecutor(CLIENTS) as threads:
        runs = threads.map(hit_until_refused, clients, [path] * CLIENTS)
        answers = [answer for run in runs for answer in run]
    seconds = max(each.after for each in answers) - min(each.before for each in answers)
    return Round(sum(each.ours for each in answers), sum(each.redis for each in answers), seconds)


@pytest.mark.parametrize("strategy", ["fixed", "moving"])
@pytest.mark.parametrize("way", WAYS)
def test_never_more_than_the_limit_and_never_fewer_than_redis_admits(
    project: Project, tmp_path: Path, way: str, strategy: str
) -> None:
    with redis_server(tmp_path), contextlib.ExitStack() as opened:
        project.environ["REDIS_URL"] = f"redis+unix://{tmp_path}/redis.sock"
        cluster = project.write(app=WAYS[way]).start("--workers", "4").wait_ready()
        clients = [opened.enter_context(httpx.Client(base_url=cluster.address)) for _ in range(CLIENTS)]
        rounds: list[Round] = []

        def played() -> list[Round]:
            """The rounds that were over within one window. The others say nothing: a second window may have begun."""
            rounds.append(play(clients, f"/{strategy}/{len(rounds)}"))
            within = [each for each in rounds if each.seconds < 1.0]
            return within if len(within) == ROUNDS else []

        for each in wait_until(played, "the clients hit often enough within a second"):
            assert 0 < each.redis <= each.ours <= LIMIT
