"""Workers that have done enough are replaced by fresh ones, and no request is lost by it."""

import json
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.cluster.harness import Launched, Project
from tests.cluster.remote import connect, obedient
from tests.waiting import DEADLINE, wait_until


def generations(cluster: Launched) -> list[int]:
    status = cluster.status()
    assert status is not None
    return [worker["generation"] for worker in status["workers"]]


def test_after_so_many_requests_a_worker_is_replaced_and_every_one_of_them_answered(project: Project) -> None:
    cluster = obedient(project).start("--workers", "2", "--max-requests", "50").wait_ready()

    def served_until_replaced() -> bool:
        return cluster.get().status_code == 200 and min(generations(cluster)) > 2

    wait_until(served_until_replaced, "each slot has been recycled twice", 60)
    assert "recycling app_worker#1:" in cluster.log
    assert "died" not in cluster.log
    assert cluster.close() == 0


WSGI = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""


def test_requests_of_clients_that_leave_after_the_content_length_are_counted(project: Project) -> None:
    """Such a client closes before the application's iterable is at its end, so the response counted as cut off."""
    cluster = project.write(app=WSGI).start("--workers", "1", "--max-requests", "200").wait_ready()
    old, parts = cluster.workers()[1], urlsplit(cluster.address)
    for _ in range(200):
        with socket.create_connection((parts.hostname, parts.port), timeout=DEADLINE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: egg\r\n\r\n")
            received = b""
            while not received.endswith(b"hello"):
                received += client.recv(4096)
    wait_until(lambda: cluster.workers().get(1, old) != old, "it has been recycled")
    assert f"recycling app_worker#1:{old} after " in cluster.log
    assert cluster.close() == 0


def test_a_worker_that_has_grown_is_replaced(project: Project) -> None:
    cluster = obedient(project).start("--workers", "1", "--max-rss", "300MiB").wait_ready()
    old = cluster.workers()[1]
    with connect(cluster, 1) as worker:
        worker.tell("import remote; remote.hog = b'x' * (300 << 20)")
    wait_until(lambda: cluster.workers().get(1, old) != old, "it has been recycled")
    assert "MiB of memory" in cluster.log
    assert cluster.close() == 0


def test_a_worker_of_a_certain_age_is_replaced(project: Project) -> None:
    cluster = obedient(project).start("--workers", "2", "--max-lifetime", "1").wait_ready()
    wait_until(lambda: min(generations(cluster)) > 1, "both have been recycled")
    assert "died" not in cluster.log
    assert cluster.close() == 0


@pytest.mark.parametrize(
    ("option", "value", "right"),
    [
        ("--max-rss", "lots", "is not an amount of memory in bytes, or with a unit: 512MiB, 2GiB"),
        ("--max-requests", "-1", "is not a number of requests from 0 to"),
        ("--worker-timeout", "soon", "is not a number of seconds, at least 1, or 0 for never"),
        ("--agent-timeout", "0.5", "is not a number of seconds, at least 1, or 0 for never"),
        ("--max-lifetime", "inf", "is not a number of seconds, or 0 for never"),
    ],
)
def test_a_bad_limit_is_one_line(project: Project, option: str, value: str, right: str) -> None:
    launched = obedient(project).start(option, value)
    assert launched.wait_exit() == 2
    assert right in launched.log
    assert len(launched.log.splitlines()) == 1


def test_events_are_followed_as_they_happen(project: Project) -> None:
    cluster = obedient(project).start("--workers", "1").wait_ready()
    follower = subprocess.Popen(
        [sys.executable, "-m", "eggcluster", "events", "--json"],
        cwd=project.folder,
        env=cluster.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    with follower.stdout as lines:

        def heard() -> bool:
            """A reload shows that it listens already, perhaps since the middle of it."""
            cluster.command("reload")
            return bool(lines.readline())

        wait_until(heard, "it follows")
        old = cluster.workers()[1]
        assert cluster.command("reload").returncode == 0
        new = cluster.workers()[1]
        assert cluster.close() == 0
        events = [json.loads(line) for line in lines]
    assert follower.wait(10) == 0
    told = [(event["event"], event.get("who"), event.get("worker_id")) for event in events]
    order = [("started", "app#1", new), ("stopping", "app#1", old), ("exited", "app#1", old), ("closing", None, None)]
    assert [event for event in told if event in order] == order
