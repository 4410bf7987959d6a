"""What the tests of uvicorn and h11 demand on the wire, and no other test here: each over a loopback socket.

Where we differ from them, with intent:

| demanded there                                              | here                                                  |
| ----------------------------------------------------------- | ----------------------------------------------------- |
| a response with a bad header closes the connection          | 500, if nothing has been sent                         |
| an application that returns a value is at fault             | the value means nothing                               |
| ASGI 2 applications                                         | ASGI 3 alone                                          |
| 100 Continue at the first read, whatever has come           | not if the body, or some of it, is there              |
| a WebSocket handshake with another version is 426           | 400, with `Sec-WebSocket-Version: 13` (RFC 6455, 4.4) |
| a second accept, and a return after accept, end with 1006   | 1011, and 1000                                        |
| a denial response with status 700 is 500                    | sent as it is: three digits are enough for HTTP       |
| `Server` of an application is added to the server's own     | takes its place                                       |
| bare LF, folds and control characters in fields are taken   | 400                                                   |
| equal Content-Lengths are folded; `0 , 0` is one            | 400                                                   |
| `Transfer-Encoding: gzip` is 501                            | 400: the body has no end; `gzip, chunked` is 501      |
| white space around a chunk's size and in extensions is read | 400                                                   |
| chunked wins over a Content-Length in a response            | the length is kept, no chunks are sent                |
"""

from typing import Any

import pytest

from eggcluster.http.http_settings import HttpSettings
from tests.unit.conftest import Run
from tests.unit.http.wire import Receive, Scope, Send, Serving, echo, get, post, respond
from tests.unit.serving import run_server  # noqa: F401
from tests.waiting import until

LARGE = 300 * 1024  # bytes; more than is written at once

# -- the request -------------------------------------------------------------------------------------------------


def test_the_scope_of_a_request_is_that_of_the_specification(run: Run) -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        scope["state"]["own"] = "not seen by the next"
        await respond(send, b"x")

    async def scenario() -> None:
        async with Serving(app, HttpSettings(root_path="/app")) as serving:
            serving.server.state["shared"] = shared = ["of all"]
            client = await serving.connect()
            for _ in range(2):
                await client.send(get("/one%2Ftwo/caf%C3%A9?a=b%20c", "X-A: 1", "x-a: 2"))
                await client.answer()
            first, second = scopes
            assert first["asgi"] == {"version": "3.0", "spec_version": "2.3"}
            assert (first["type"], first["http_version"], first["method"]) == ("http", "1.1", "GET")
            assert (first["scheme"], first["root_path"]) == ("http", "/app")
            assert (first["path"], first["raw_path"]) == ("/app/one/two/café", b"/one%2Ftwo/caf%C3%A9")
            assert first["query_string"] == b"a=b%20c"
            assert first["headers"] == [(b"host", b"x"), (b"x-a", b"1"), (b"x-a", b"2")]
            assert second["state"]["shared"] is shared
            assert "own" not in serving.server.state

    run(scenario())


@pytest.mark.parametrize("beginning", [b"\0", b"\x16\x03", b"{", b"<", b" "])
def test_what_is_no_http_is_refused_before_its_line_is_complete(run: Run, beginning: bytes) -> None:
    async def scenario() -> None:
        async with Serving(echo) as serving:
            client = await serving.connect()
            await client.send(beginning)
            answer = await client.answer()
            assert (answer.status, answer.closes) == (400, True)

    run(scenario())


def test_beyond_the_limit_of_connections_a_request_is_answered_with_503(run: Run) -> None:
    async def scenario() -> None:
        async with Serving(echo, HttpSettings(limit_concurrency=2)) as serving:
            first = await serving.connect()
            await first.send(get())
            assert (await first.answer()).status == 200
            second = await serving.connect()
            await second.send(get())
            answer = await second.answer()
            assert (answer.status, answer.closes, answer.body) == (503, True, b"Service Unavailable")
            assert await second.rest() == b""
            await until(lambda: len(serving.server.connections) == 1, "the second connection is closed")
            await first.send(get())
            assert (await first.answer()).status == 200

    run(scenario())


# -- the response ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, LARGE])
def test_headers_may_be_an_iterator(run: Run, size: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, bytes(size), headers=iter([(b"x-a", b"1"), (b"x-b", b"\t\xc2\xb5 .")]))

    async def scenario() -> None:
        logged: list[Any] = []
        async with Serving(app) as serving:
            serving.server.on_response = lambda exchange: logged.append(list(exchange.response_headers))
            client = await serving.connect()
            await client.send(get())
            answer = await client.answer()
            assert (answer.headers["x-a"], answer.headers["x-b"]) == ("1", "\t\xc2\xb5 .")
            assert answer.headers["content-length"] == str(len(answer.body)) == str(size)
            assert (b"x-a", b"1") in logged[0]

    run(scenario())


def test_what_the_application_returns_means_nothing(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"x")
        return 123  # type: ignore[return-value]

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            for _ in range(2):
                await client.send(get())
                assert (await client.answer()).body == b"x"

    run(scenario())


def test_after_its_response_the_application_is_told_of_the_end_at_once(run: Run) -> None:
    events: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"x")
        events.append((await receive())["type"])

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            for request in (post(b"body"), get(), get("/", "Content-Length: 4", method="POST")):
                await client.send(request)
                assert (await client.answer()).body == b"x"
                await until(lambda: events == ["http.disconnect"], "the end is told")
                events.clear()

    run(scenario())
