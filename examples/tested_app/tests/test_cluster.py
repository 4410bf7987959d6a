"""All parts together: an agent, app workers and their messages."""

import time

import httpx
import pytest

from eggcluster.testing import RunningCluster


def all_have_heard(cluster: RunningCluster, guests: list[str]) -> bool:
    """Ask until each worker has answered with these guests, for ten seconds at most."""
    answers: dict[int, list[str]] = {}
    end = time.monotonic() + 10
    while time.monotonic() < end:
        answer = httpx.get(f"{cluster.url}/guests").json()
        answers[answer["worker"]] = answer["guests"]
        if len(answers) == len(cluster.workers) and all(heard == guests for heard in answers.values()):
            return True
        time.sleep(0.01)
    return False


def test_every_worker_hears_of_a_guest(cluster: RunningCluster) -> None:
    assert [httpx.post(f"{cluster.url}/guests/{name}").json()["number"] for name in ("hen", "egg")] == [1, 2]
    assert all_have_heard(cluster, ["hen", "egg"])


@pytest.mark.eggcluster(workers=1, start_mode="thread")
def test_a_reload_begins_with_an_empty_book(cluster: RunningCluster) -> None:
    httpx.post(f"{cluster.url}/guests/hen")
    cluster.reload()
    assert httpx.get(f"{cluster.url}/guests").json()["guests"] == []
    assert cluster.request("count", "egg", to="agent") == 2
