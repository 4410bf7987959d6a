"""Each view alone: without processes, in milliseconds. `sent_messages` takes the place of the cluster."""

from app import app, remember
from starlette.testclient import TestClient

from eggcluster.testing import SentMessage, SentMessages


def test_a_guest_is_told_to_all_workers_and_counted_in_the_agent(sent_messages: SentMessages) -> None:
    sent_messages.answers["count"] = 7
    with TestClient(app) as client:
        assert client.post("/guests/hen").json() == {"number": 7}
    assert sent_messages == [
        SentMessage("welcomed", "hen", to="app"),
        SentMessage("count", "hen", to="agent", is_request=True),
    ]


def test_a_worker_remembers_what_it_is_told(sent_messages: SentMessages) -> None:
    with TestClient(app) as client:  # runs on_start, and on_close at the end
        remember("hen")
        assert client.get("/guests").json()["guests"] == ["hen"]
