"""Django's cache with real workers: what one writes all read, and what has to be atomic is."""

import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.cluster.harness import Launched, Project
from tests.waiting import wait_until

CLIENTS, EACH = 8, 50
MODES = ("process", "thread", *(("interpreter",) if sys.version_info >= (3, 14) else ()))

SETUP = """
import django, os
from django.conf import settings

settings.configure(CACHES={"default": {"BACKEND": "eggcluster.integrations.django.Cache"}})
django.setup()
from django.core.cache import cache
"""
WSGI = (
    SETUP
    + """
def do(word, given):
    if word == "set":
        return cache.set("k", given)
    if word == "get":
        return f"{os.getpid()} {cache.get('k')}"
    if word == "add":
        return cache.add("one", given)
    if word == "incr":
        return cache.incr("k")

def app(environ, start_response):
    start_response("200 OK", [])
    _, word, given = environ["PATH_INFO"].split("/")
    return [str(do(word, given and int(given))).encode()]
"""
)
ASGI = (
    SETUP
    + """
async def do(word, given):
    if word == "set":
        return await cache.aset("k", given)
    if word == "get":
        return f"{os.getpid()} {await cache.aget('k')}"
    if word == "add":
        return await cache.aadd("one", given)
    if word == "incr":
        return await cache.aincr("k")
    try:
        cache.set("k", 1)
    except RuntimeError as error:
        return error

async def app(scope, receive, send):
    if scope["type"] == "http":
        _, word, given = scope["path"].split("/")
        text = str(await do(word, given and int(given))).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text})
"""
)
WAYS = {"wsgi": WSGI, "asgi": ASGI}


def start(project: Project, way: str, mode: str = "process") -> Launched:
    return project.write(app=WAYS[way]).start("--workers", "4", "--start-mode", mode).wait_ready()


def everywhere(cluster: Launched) -> dict[str, str]:
    """What each worker reads, by its pid."""
    found: dict[str, str] = {}

    def all_said() -> bool:
        pid, value = cluster.get("/get/").text.split()
        found[pid] = value
        return len(found) == 4

    wait_until(all_said, "an answer of each worker")
    return found


@pytest.mark.parametrize("way", WAYS)
def test_all_workers_read_what_one_writes_even_after_a_reload(project: Project, way: str) -> None:
    cluster = start(project, way)
    cluster.get("/set/7")
    wait_until(lambda: set(everywhere(cluster).values()) == {"7"}, "all read it")
    assert cluster.command("reload", "--agent").returncode == 0
    wait_until(lambda: set(everywhere(cluster).values()) == {"7"}, "the new ones read it, too")


@pytest.mark.parametrize("way", WAYS)
def test_a_reload_with_the_agent_loses_nothing_although_the_cache_is_made_by_the_first_request(
    project: Project, way: str
) -> None:
    """So a new worker has not asked for a copy by itself when the old worker and the old agent close."""
    cluster = project.write(app=WAYS[way]).start("--workers", "1").wait_ready()
    cluster.get("/set/7")
    for _ in range(3):
        assert cluster.command("reload", "--agent").returncode == 0
    assert cluster.get("/get/").text.split()[1] == "7"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_incr_and_add_are_atomic_over_all_workers(project: Project, way: str, mode: str) -> None:
    cluster = start(project, way, mode)
    cluster.get("/set/0")

    def work(number: int) -> tuple[str, list[str]]:
        with httpx.Client(base_url=cluster.address) as client:
            added = client.get(f"/add/{number}").text
            return added, [client.get("/incr/").text for _ in range(EACH)]

    with ThreadPoolExecutor(CLIENTS) as clients:
        done = list(clients.map(work, range(CLIENTS)))
    assert [added for added, _ in done].count("True") == 1
    numbers = sorted(int(each) for _, numbers in done for each in numbers)
    assert numbers == list(range(1, CLIENTS * EACH + 1))


def test_a_synchronous_write_in_the_event_loop_says_what_would_be_right(project: Project) -> None:
    assert "await here, or use a thread" in start(project, "asgi").get("/wrong/").text
