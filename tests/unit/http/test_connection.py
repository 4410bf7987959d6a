"""Requests on one connection, one after the other, over a loopback socket."""

import asyncio
import contextvars

import pytest

from tests.unit.conftest import Run
from tests.unit.http.wire import Receive, Scope, Send, Serving, echo, get, post, respond, turns
from tests.unit.serving import run_server  # noqa: F401

# -- one request after the other ----------------------------------------------------------------------------


def test_a_connection_serves_one_request_after_the_other(run: Run) -> None:
    async def scenario() -> None:
        async with Serving(echo) as serving:
            client = await serving.connect()
            for number in range(3):
                await client.send(get(f"/{number}"))
                answer = await client.answer()
                assert (answer.status, answer.body) == (200, b"GET /%d " % number)
                assert "connection" not in answer.headers
            assert serving.server.requests == 3

    run(scenario())


@pytest.mark.parametrize("line", ["Connection: close", "Proxy-Connection: close"])
def test_the_client_and_the_server_can_say_that_a_response_is_the_last(run: Run, line: str) -> None:
    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"bye", headers=[(b"Connection", b"close")])

    async def scenario() -> None:
        async with Serving(echo) as serving:
            client = await serving.connect()
            await client.send(get("/", line))
            assert (await client.answer()).closes
            assert await client.rest() == b""
        async with Serving(closing) as serving:
            client = await serving.connect()
            await client.send(get())
            assert (await client.answer()).closes
            assert await client.rest() == b""

    run(scenario())


def test_http_1_0_ends_with_its_response_unless_it_is_to_be_kept(run: Run) -> None:
    async def scenario() -> None:
        async with Serving(echo) as serving:
            client = await serving.connect()
            await client.send(b"GET / HTTP/1.0\r\n\r\n")
            answer = await client.answer()
            assert (answer.version, answer.closes, answer.body) == ("1.1", True, b"GET / ")
            assert await client.rest() == b""
            kept = await serving.connect()
            for _ in range(2):
                await kept.send(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
                assert (await kept.answer()).headers["connection"] == "keep-alive"

    run(scenario())


def test_http_1_0_gets_a_body_of_unknown_length_up_to_the_end(run: Run) -> None:
    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"one", b"two")

    async def scenario() -> None:
        async with Serving(streaming) as serving:
            client = await serving.connect()
            await client.send(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            answer = await client.answer()
            assert (answer.body, answer.closes) == (b"onetwo", True)
            assert not {"content-length", "transfer-encoding"} & answer.headers.keys()

    run(scenario())


def test_the_bytes_of_a_request_may_come_one_by_one(run: Run) -> None:
    async def scenario() -> None:
        async with Serving(echo) as serving:
            client = await serving.connect()
            data = post(b"hello", path="/p")
            await client.send(*[data[index : index + 1] for index in range(len(data))])
            assert (await client.answer()).body == b"POST /p hello"

    run(scenario())


# -- pipelined requests --------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order_one_at_a_time(run: Run) -> None:
    running: list[str] = []
    most = 0

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal most
        running.append(scope["path"])
        most = max(most, len(running))
        await turns(100 if scope["path"] == "/0" else 1)  # the first one is the slowest
        running.remove(scope["path"])
        await echo(scope, receive, send)

    async def scenario() -> None:
        async with Serving(slow) as serving:
            client = await serving.connect()
            await client.send(get("/0") + post(b"body", path="/1") + get("/2"), get("/3"))
            answers = [await client.answer() for _ in range(4)]
            assert [answer.body for answer in answers] == [b"GET /0 ", b"POST /1 body", b"GET /2 ", b"GET /3 "]
        assert most == 1

    run(scenario())


def test_many_pipelined_requests_are_answered_though_the_client_has_shut_its_half(run: Run) -> None:
    async def scenario() -> None:
        async with Serving(echo) as serving:
            client = await serving.connect()
            sending = asyncio.create_task(client.send(b"".join(get(f"/{number}") for number in range(5000))))
            for number in range(4000):
                assert (await client.answer()).body == b"GET /%d " % number
            await sending
            client.shut_down()
            for number in range(4000, 5000):
                assert (await client.answer()).body == b"GET /%d " % number
            assert await client.rest() == b""

    run(scenario())


def test_each_request_has_a_context_of_its_own(run: Run) -> None:
    variable = contextvars.ContextVar("variable", default="none")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        before = variable.get()
        variable.set(scope["path"])
        await respond(send, before.encode())

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get("/1") + get("/2") + get("/3"))
            assert [(await client.answer()).body for _ in range(3)] == [b"none"] * 3
            await client.send(get("/4"))
            assert (await client.answer()).body == b"none"

    run(scenario())


def test_what_follows_the_last_request_is_not_served(run: Run) -> None:
    served = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        served.append(scope["path"])
        headers = [(b"connection", b"close")] if scope["path"] == "/app-closes" else []
        await respond(send, b"x", headers=headers)

    async def scenario() -> None:
        async with Serving(app) as serving:
            for first in (get("/client-closes", "Connection: close"), b"GET /1.0 HTTP/1.0\r\n\r\n", get("/app-closes")):
                for rest in (get("/after"), b"\r\n", b"no HTTP", get("/after") * 5000, post(bytes(200_000))):
                    client = await serving.connect()
                    sending = asyncio.create_task(client.send(first + rest))
                    answer = await client.answer()
                    assert (answer.status, answer.closes) == (200, True)
                    assert await client.rest() == b"", (first, rest[:30])
                    client.close()
                    await asyncio.gather(sending, return_exceptions=True)
        assert set(served) == {"/client-closes", "/1.0", "/app-closes"}
        assert len(served) == 15

    run(scenario())


# -- upgrades that are not wanted ----------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", get("/before")])
def test_an_upgrade_that_the_server_does_not_know_is_a_request_like_any_other(run: Run, before: bytes) -> None:
    lines = ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk")

    async def scenario() -> None:
        async with Serving(echo) as serving:
            client = await serving.connect()
            chunked = get("/c", "Transfer-Encoding: chunked", *lines, method="POST") + b"4\r\nbody\r\n0\r\n\r\n"
            await client.send(before + post(b"body", *lines) + get("/g", *lines) + chunked + get("/2"))
            if before:
                assert (await client.answer()).body == b"GET /before "
            for body in (b"POST / body", b"GET /g ", b"POST /c body", b"GET /2 "):
                assert (await client.answer()).body == body
            data = post(b"body", *lines, path="/slow")
            await client.send(data[:-4], *[data[index : index + 1] for index in range(len(data) - 4, len(data))])
            assert (await client.answer()).body == b"POST /slow body"

    run(scenario())
