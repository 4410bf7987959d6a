"""A view is tested alone: the messenger records, the lifespan of an `Application` runs its hooks."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from eggcluster import Agent, Application, MessengerClosed, NotSerializable, ReservedAction, messenger
from eggcluster.testing import SentMessage, SentMessages, run_lifespan
from eggcluster.testing.unit_test_context import UnitTestContext
from eggcluster.worker.context.current import current_context, use_outside


@pytest.fixture
def sent() -> Iterator[SentMessages]:
    """As the plugin's fixture `sent_messages`; this suite does not depend on the plugin."""
    with use_outside(context := UnitTestContext()):
        yield context.sent


class Noted:
    """An application that notes in which order its hooks run."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.app = Application(Starlette(routes=[Route("/", self.view)], lifespan=self.lifespan))
        self.app.on_start(self.note("on_start"))
        self.app.on_ready(self.note("on_ready"))
        self.app.on_close(self.note("on_close"))
        self.app.background(self.note("background"))

    def note(self, step: str) -> Callable[[], None]:
        def hook() -> None:
            self.steps.append(step)

        return hook

    @asynccontextmanager
    async def lifespan(self, api: Starlette) -> AsyncIterator[dict[str, str]]:
        self.steps.append("lifespan startup")
        yield {"greeting": "hello"}
        self.steps.append("lifespan shutdown")

    async def view(self, request: Request) -> JSONResponse:
        self.steps.append("view")
        return JSONResponse({"greeting": request.state.greeting, "closing": self.app.closing.is_set()})


IN_ORDER = ["on_start", "lifespan startup", "view", "lifespan shutdown", "on_close"]


def test_the_hooks_run_around_the_lifespan_as_in_a_worker(sent: SentMessages) -> None:
    noted = Noted()
    with TestClient(noted.app) as client:
        assert client.get("/").json() == {"greeting": "hello", "closing": False}
    assert noted.steps == IN_ORDER
    assert noted.app.closing.is_set()


def test_each_lifespan_begins_anew(sent: SentMessages) -> None:
    noted = Noted()
    noted.app.on_start(lambda: noted.app.on_close(noted.note("late")))
    for _ in range(2):
        noted.steps.clear()
        with TestClient(noted.app) as client:
            assert not hasattr(noted.app.local, "seen")
            noted.app.local.seen = True
            assert client.get("/").json()["closing"] is False
        assert noted.steps == [*IN_ORDER[:-1], "late", "on_close"]
        assert noted.app.local.seen


def test_without_the_context_a_test_client_calls_the_application_alone() -> None:
    noted = Noted()
    before = current_context()
    with use_outside(UnitTestContext()):
        pass
    assert current_context() is before
    with TestClient(noted.app) as client:
        client.get("/")
    assert noted.steps == IN_ORDER[1:-1]
    with pytest.raises(MessengerClosed, match="no cluster runs here"):
        messenger.send_to_app("news")


def test_httpx_runs_the_lifespan_with_our_context_manager(sent: SentMessages) -> None:
    noted = Noted()

    async def main() -> None:
        async with run_lifespan(noted.app) as state:
            assert state["greeting"] == "hello"
            assert not state["eggcluster_closing"].is_set()
        assert state["eggcluster_closing"].is_set()

    asyncio.run(main())
    assert noted.steps == [step for step in IN_ORDER if step != "view"]


async def _bare(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_an_application_without_a_lifespan_has_its_hooks_run(sent: SentMessages) -> None:
    app, steps = Application(_bare), list[str]()
    app.on_start(lambda: steps.append("on_start"))
    app.on_close(lambda: steps.append("on_close"))

    async def main() -> None:
        transport = httpx.ASGITransport(app)
        async with run_lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            assert (await http.get("/")).status_code == 204

    asyncio.run(main())
    assert steps == ["on_start", "on_close"]


def _fail() -> None:
    raise LookupError("no database")


def test_an_on_start_that_raises_fails_the_startup(sent: SentMessages) -> None:
    noted = Noted()
    noted.app.on_start(_fail)
    with pytest.raises(LookupError, match="no database"), TestClient(noted.app):
        pass
    assert noted.steps == ["on_start"]


def test_an_on_close_that_raises_fails_the_shutdown(sent: SentMessages, caplog: pytest.LogCaptureFixture) -> None:
    noted = Noted()
    noted.app.on_close(_fail)

    async def main() -> None:
        async with run_lifespan(noted.app):
            pass

    with pytest.raises(RuntimeError, match="on_close or the lifespan's shutdown failed"):
        asyncio.run(main())
    assert "no database" in caplog.text
    assert noted.steps[-1] == "on_close"


def test_what_is_sent_is_recorded_as_its_receivers_would_get_it(sent: SentMessages) -> None:
    app, agent = Application(_bare), Agent()
    data = {"pair": (1, 2)}
    messenger.broadcast("a", data)
    data["pair"] = (3, 4)
    app.messenger.send_to_app("b")
    app.messenger.send("c")
    agent.messenger.send("d")
    thread = threading.Thread(target=messenger.send_to, args=("app#2", "e", 5))
    thread.start()
    thread.join()
    messenger.send_to(4711, "f")
    messenger.send_random("g")
    asyncio.run(messenger.drain())
    assert sent == [
        SentMessage("a", {"pair": [1, 2]}, "all"),
        SentMessage("b", None, "app"),
        SentMessage("c", None, "agent"),
        SentMessage("d", None, "app"),
        SentMessage("e", 5, "app#2"),
        SentMessage("f", None, 4711),
        SentMessage("g", None, "random"),
    ]
    assert sent.of("e") == [SentMessage("e", 5, "app#2")]


def test_what_a_real_messenger_refuses_is_refused(sent: SentMessages) -> None:
    with pytest.raises(NotSerializable):
        messenger.send_to_agent("news", object())
    with pytest.raises(ReservedAction):
        messenger.send_to_agent("egg-ready")
    assert sent == []


def test_requests_get_the_answers_that_the_test_has_set(sent: SentMessages) -> None:
    async def double(number: int) -> int:
        return 2 * number

    async def main() -> list[Any]:
        return [await messenger.request(action, 4, to="app") for action in ("value", "plain", "async")]

    sent.answers |= {"value": 3, "plain": str, "async": double}
    assert asyncio.run(main()) == [3, "4", 8]
    assert sent[0] == SentMessage("value", 4, "app", is_request=True)


def test_a_request_without_an_answer_says_how_to_set_one(sent: SentMessages) -> None:
    with pytest.raises(MessengerClosed, match=r'set sent_messages\.answers\["lookup"\]'):
        asyncio.run(messenger.request("lookup"))
    assert sent == [SentMessage("lookup", None, "agent", is_request=True)]


def test_shared_state_belongs_to_one_test() -> None:
    app = Application(_bare)
    with use_outside(UnitTestContext()):
        asyncio.run(app.shared.set("key", 1))
        assert app.shared.get("key") == 1
    with use_outside(UnitTestContext()):
        assert app.shared.get("key") is None
