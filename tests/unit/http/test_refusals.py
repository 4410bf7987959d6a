"""Requests that are refused, and those before them, over a loopback socket."""

import asyncio

import pytest

from eggcluster.http.head import Limits
from eggcluster.http.http_settings import HttpSettings
from tests.unit.conftest import Run
from tests.unit.http.wire import Receive, Scope, Send, Serving, echo, get, post, respond, turns
from tests.unit.serving import run_server  # noqa: F401
from tests.waiting import until


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"no HTTP\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (get("/", "A: b\r\n c"), 400),
        (get("/", "Content-Length: x"), 400),
        (get("/", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
        (get("/", "Transfer-Encoding: chunked", method="POST") + b"x\r\n", 400),
        (get("/", "Transfer-Encoding: gzip, chunked", method="POST") + b"0\r\n\r\n", 501),
        (get("x:80", method="CONNECT"), 501),
        (get(version="3.0"), 505),
        (get("/", "Expect: 200-ok", "Content-Length: 5", method="POST"), 417),
    ],
)
def test_what_cannot_be_served_is_refused_and_the_connection_closed(
    run: Run, data: bytes, status: int, request: pytest.FixtureRequest
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":  # a body that breaks off
            pass

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(data + get("/after"))
            answer = await client.answer()
            assert answer.status in (status, 400)  # h11 does not say why it refuses
            assert answer.closes
            assert await client.rest() == b""

    run(scenario())


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize(
    "wrong", [b"no HTTP\r\n\r\n", get("/", "Transfer-Encoding: chunked", method="POST") + b"x\r\n"]
)
def test_requests_before_a_refused_one_are_answered(run: Run, wrong: bytes, pieces: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await turns()
        await echo(scope, receive, send)

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            data = get("/1") + get("/2")
            await client.send(*([data + wrong] if pieces == 1 else [data, wrong]))
            client.shut_down()
            assert (await client.answer()).body == b"GET /1 "
            assert (await client.answer()).body == b"GET /2 "
            answer = await client.answer()
            assert (answer.status, answer.closes) == (400, True)
            assert await client.rest() == b""

    run(scenario())


def test_a_head_that_is_too_large_is_refused_before_it_is_complete(run: Run) -> None:
    async def scenario() -> None:
        settings = HttpSettings(limits=Limits(max_header_bytes=2000))
        async with Serving(echo, settings) as serving:
            for head in (get("/", "A: " + "b" * 1500)[:-2], b"GET /" + b"a" * 1500):
                client = await serving.connect()
                await client.send(head, b"d" * 1000)
                answer = await client.answer()
                assert (answer.status, answer.closes) == (431, True)
                assert await client.rest() == b""
            client = await serving.connect()
            await client.send(get("/", "A: " + "b" * 1500))
            assert (await client.answer()).status == 200
            await client.send(post(bytes(100_000)))
            assert len((await client.answer()).body) > 100_000

    run(scenario())


def test_a_pipelined_head_and_trailers_have_the_same_limit(run: Run) -> None:
    may_answer = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await may_answer.wait()
        await respond(send, b"answered")

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get() + b"GET /2 HTTP/1.1\r\n", *[b"A: " + bytes(60_000).replace(b"\0", b"b")] * 4)
            connection = await client.accepted()
            await until(lambda: connection._rejection, "the head is refused")
            may_answer.set()
            assert (await client.answer()).body == b"answered"
            assert (await client.answer()).status == 431
            client = await serving.connect()
            may_answer.clear()
            await client.send(get("/", "Transfer-Encoding: chunked", method="POST") + b"0\r\n")
            await client.send(*[b"A: " + b"b" * 60_000 + b"\r\n"] * 4)
            assert (await client.answer()).status == 431
            may_answer.set()

    run(scenario())


def test_a_body_that_is_too_large_is_refused(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def scenario() -> None:
        async with Serving(app, HttpSettings(limits=Limits(max_body_bytes=1000))) as serving:
            client = await serving.connect()
            await client.send(post(bytes(1001)))
            assert (await client.answer()).status == 413
            client = await serving.connect()
            await client.send(get("/", "Transfer-Encoding: chunked", method="POST"))
            await client.send(*[b"200\r\n" + bytes(512) + b"\r\n"] * 2)
            assert (await client.answer()).status == 413

    run(scenario())
