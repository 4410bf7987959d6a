"""`--request-timeout`: 504 or a reset for the client, the application's stack in the log, threads that are lost."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eggcluster.http import request_timeout
from eggcluster.http.http_settings import HttpSettings
from eggcluster.http.request_timeout import GRACE, TimeLimit
from eggcluster.http.websocket import asgi_exchange
from eggcluster.http.wsgi import WsgiExchange
from tests.unit.conftest import Run
from tests.unit.http.wire import RESET, Receive, Scope, Send, Serving, get, respond
from tests.unit.serving import run_server  # noqa: F401
from tests.waiting import DEADLINE, until

LIMIT = HttpSettings(request_timeout=0.05)
THREADS = HttpSettings(request_timeout=0.3, threads=2)  # more, because a thread may have to wait for a CPU
Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], None]]


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_timeout, "GRACE", 0.05)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


# -- the time limit alone --------------------------------------------------------------------------------------------


class Request:
    def __init__(self, *, is_limited: bool = True) -> None:
        self.deadline = 0.0
        self.is_limited = is_limited
        self.told: list[str] = []

    def time_out(self) -> None:
        self.told.append("time out")

    def outlast(self) -> None:
        self.told.append("outlast")


def test_a_request_has_its_full_time_from_the_first_check_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_timeout, "GRACE", GRACE)
    request, free = Request(), Request(is_limited=False)
    running = {request, free}
    limit = TimeLimit(10, running)
    for now, told in [
        (100.0, []),
        (109.9, []),
        (110.0, ["time out"]),
        (110.0 + GRACE - 0.1, ["time out"]),
        (110.0 + GRACE, ["time out", "outlast"]),
        (200.0, ["time out", "outlast"]),
    ]:
        limit.check(now)
        assert request.told == told
    assert free.told == []


def test_a_request_that_ends_in_its_grace_is_told_nothing_more() -> None:
    request = Request()
    running = {request}
    limit = TimeLimit(10, running)
    for now in (100.0, 110.0):
        limit.check(now)
    running.clear()
    for now in (110.5, 200.0):
        limit.check(now)
    assert request.told == ["time out"]


# -- ASGI ------------------------------------------------------------------------------------------------------------


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Begins a response at /begun, and never ends."""
    if scope["path"] == "/begun":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"piece", "more_body": True})
    await a_long_wait()


async def a_long_wait() -> None:
    await asyncio.Event().wait()


def test_an_application_that_takes_too_long_is_cancelled_and_its_client_gets_504(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with Serving(slow, LIMIT) as serving:
            client = await serving.connect()
            await client.send(get("/slow"))
            answer = await client.answer()
            assert (answer.status, answer.closes) == (504, True)
            assert await client.rest() == b""
            await until(lambda: not serving.server.running, "the task is cancelled")

    run(scenario())
    (line,) = errors(caplog)
    assert line.startswith('GET "/slow" took longer than its --request-timeout and is cancelled')
    assert "in a_long_wait" in line
    assert "eggcluster/http" not in line


def test_a_response_that_has_begun_ends_with_a_reset(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with Serving(slow, LIMIT) as serving:
            client = await serving.connect()
            await client.send(get("/begun"))
            rest = await client.rest()
            assert b" 200 OK" in rest
            assert rest.endswith(b"piece\r\n" + RESET)

    run(scenario())
    assert len(errors(caplog)) == 1


def test_a_head_that_has_not_been_sent_gives_way_to_504(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await a_long_wait()

    async def scenario() -> None:
        async with Serving(app, LIMIT) as serving:
            monkeypatch.setattr(serving.server, "flush_soon", lambda exchange: None)
            client = await serving.connect()
            await client.send(get())
            assert (await client.answer()).status == 504

    run(scenario())


@pytest.mark.parametrize("answers", [False, True])
def test_an_application_that_swallows_its_cancellation_keeps_no_client(
    run: Run, caplog: pytest.LogCaptureFixture, answers: bool
) -> None:
    end = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await a_long_wait()
        except asyncio.CancelledError:
            await end.wait()
        if answers:
            await respond(send, b"late")

    async def scenario() -> None:
        async with Serving(app, LIMIT) as serving:
            client = await serving.connect()
            await client.send(get("/stubborn"))
            assert (await client.answer()).status == 504
            assert await client.rest() == b""
            await until(lambda: len(errors(caplog)) == 2, "the log says that it goes on")
            end.set()

    run(scenario())
    assert errors(caplog)[1].startswith('GET "/stubborn" goes on')


@pytest.mark.parametrize("seconds", [None, 300.0])
def test_a_route_may_ask_for_more(run: Run, caplog: pytest.LogCaptureFixture, seconds: float | None) -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/long":
            scope["extensions"]["eggcluster.timeout"](seconds)
            await go.wait()
            await respond(send, b"done")
        else:
            await a_long_wait()

    async def scenario() -> None:
        async with Serving(app, LIMIT) as serving:
            long, short = await serving.connect(), await serving.connect()
            await long.send(get("/long"))
            await until(lambda: serving.server.running, "it is served")
            await short.send(get("/short"))
            assert (await short.answer()).status == 504
            go.set()
            assert (await long.answer()).body == b"done"

    run(scenario())
    assert len(errors(caplog)) == 1


def test_a_route_may_ask_for_less(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"]["eggcluster.timeout"](0.05)
        await a_long_wait()

    async def scenario() -> None:
        async with Serving(app, HttpSettings(request_timeout=3600)) as serving:
            client = await serving.connect()
            await client.send(get())
            assert (await client.answer()).status == 504

    run(scenario())


def test_without_a_time_limit_there_is_no_such_extension(run: Run) -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["extensions"].get("eggcluster.timeout"))
        await respond(send)

    async def scenario() -> None:
        for settings in (HttpSettings(), LIMIT):
            async with Serving(app, settings) as serving:
                client = await serving.connect()
                await client.send(get())
                await client.answer()

    run(scenario())
    assert seen[0] is None
    assert callable(seen[1])


def test_what_an_application_does_after_its_response_is_not_limited(run: Run) -> None:
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await a_long_wait()
        await respond(send, b"done")
        await ended.wait()

    async def scenario() -> None:
        async with Serving(app, LIMIT) as serving:
            client, other = await serving.connect(), await serving.connect()
            await client.send(get())
            assert (await client.answer()).body == b"done"
            for _ in range(2):
                other = await serving.connect()
                await other.send(get("/slow"))
                assert (await other.answer()).status == 504
            assert len(serving.server.running) == 1
            ended.set()

    run(scenario())


def test_an_application_whose_client_has_left_is_cancelled(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with Serving(slow, LIMIT) as serving:
            client = await serving.connect()
            await client.send(get())
            await until(lambda: serving.server.running, "it is served")
            client.reset()
            await until(lambda: not serving.server.running, "it is cancelled")

    run(scenario())
    assert len(errors(caplog)) == 1


def test_a_websocket_is_not_limited(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await a_long_wait()
        await receive()
        await send({"type": "websocket.accept"})
        assert "eggcluster.timeout" not in scope["extensions"]
        await receive()

    upgrade = (
        "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip

    async def scenario() -> None:
        async with Serving(app, LIMIT, new_exchange=asgi_exchange) as serving:
            socket = await serving.connect()
            await socket.send(get("/", *upgrade))
            assert b" 101 " in await socket.until(b"\r\n\r\n")
            for _ in range(2):
                client = await serving.connect()
                await client.send(get())
                assert (await client.answer()).status == 504
            assert len(serving.server.connections) == 1
            socket.reset()

    run(scenario())


# -- WSGI ------------------------------------------------------------------------------------------------------------


class Stuck:
    """A WSGI application that waits in its thread, on /stuck, until `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.called: list[str] = []

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        if environ["PATH_INFO"] == "/more":
            environ["eggcluster.timeout"](300)
        self.called.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] in ("/stuck", "/more"):
            self.wait_for_ever()
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun "
        if environ["PATH_INFO"] == "/begun":
            self.wait_for_ever()
        yield b"done"

    def wait_for_ever(self) -> None:
        assert self.go.wait(DEADLINE)


def test_a_wsgi_client_gets_504_and_the_log_the_stack_of_the_thread(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    app = Stuck()

    async def scenario() -> None:
        async with Serving(app, THREADS, new_exchange=WsgiExchange) as serving:
            client = await serving.connect()
            await client.send(get("/stuck"))
            assert (await client.answer()).status == 504
            app.go.set()

    run(scenario())
    line = errors(caplog)[0]
    assert line.startswith('GET "/stuck" took longer than its --request-timeout; it is at')
    assert "in wait_for_ever" in line


def test_a_wsgi_response_that_has_begun_ends_with_a_reset(run: Run) -> None:
    app = Stuck()

    async def scenario() -> None:
        async with Serving(app, THREADS, new_exchange=WsgiExchange) as serving:
            client = await serving.connect()
            await client.send(get("/begun"))
            assert (await client.rest()).endswith(b"begun \r\n" + RESET)
            app.go.set()

    run(scenario())


def test_a_thread_that_does_not_come_back_is_replaced_until_it_does(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    app = Stuck()

    async def scenario() -> None:
        async with Serving(app, THREADS, new_exchange=WsgiExchange) as serving:
            pool, quick = serving.server.pool, await serving.connect()
            for lost in (1, 2, 3):  # more than there are threads
                client = await serving.connect()
                await client.send(get("/stuck"))
                assert (await client.answer()).status == 504
                await until(lambda: pool.lost == lost, "the thread is lost")  # noqa: B023
                await quick.send(get("/quick"))
                assert (await quick.answer()).body == b"begun done"
            app.go.set()
            await until(lambda: not pool.lost, "the threads have come back")
            await quick.send(get("/quick"))
            assert (await quick.answer()).body == b"begun done"

    run(scenario())
    assert any("(3 of 2 lost)" in line and "in wait_for_ever" in line for line in errors(caplog))


def test_a_request_that_waits_too_long_for_a_thread_gets_504_and_is_not_served(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    app = Stuck()

    async def scenario() -> None:
        settings = HttpSettings(request_timeout=0.3, threads=1)
        async with Serving(app, settings, new_exchange=WsgiExchange) as serving:
            busy, late = await serving.connect(), await serving.connect()
            await busy.send(get("/more"))
            await until(lambda: app.called, "the thread is busy")
            await late.send(get("/late"))
            assert (await late.answer()).status == 504
            app.go.set()
            assert (await busy.answer()).body == b"begun done"
            await until(lambda: not serving.server.running, "both are over")
            assert serving.server.pool.lost == 0

    run(scenario())
    assert errors(caplog) == ['GET "/late" waited for a thread longer than its --request-timeout']
    assert app.called == ["/more"]


def test_a_wsgi_application_that_waits_for_the_body_comes_back(run: Run) -> None:
    raised: list[BaseException] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            raised.append(error)
        start_response("200 OK", [])
        return [b"late"]

    async def scenario() -> None:
        async with Serving(app, THREADS, new_exchange=WsgiExchange) as serving:
            client = await serving.connect()
            await client.send(get("/", "Content-Length: 5", method="POST"))
            assert (await client.answer()).status == 504
            await until(lambda: raised, "the reading has ended")
            assert serving.server.pool.lost == 0

    run(scenario())
    assert isinstance(raised[0], ConnectionResetError)
