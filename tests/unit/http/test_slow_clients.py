"""Clients that leave, do not read, or take too long, over a loopback socket."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from eggcluster.http.http_settings import HttpSettings
from tests.unit.conftest import Run
from tests.unit.http.wire import RESET, Receive, Scope, Send, Serving, echo, get, post, read_body, respond, turns
from tests.unit.serving import run_server  # noqa: F401
from tests.waiting import until

MB = 1024 * 1024


# -- clients that leave --------------------------------------------------------------------------------------------


def test_a_client_that_has_shut_its_half_gets_its_answer(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        assert (await receive())["type"] == "http.disconnect"
        await respond(send, b"to ", body)

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(post(b"body"))
            client.shut_down()
            assert (await client.answer()).body == b"to body"
            assert await client.rest() == b""
        async with Serving(echo) as serving:
            client = await serving.connect()
            await client.send(post(b"1") + post(b"2") + post(b"3"))
            client.shut_down()
            assert [(await client.answer()).body[-1:] for _ in range(3)] == [b"1", b"2", b"3"]
            assert await client.rest() == b""

    run(scenario())


@pytest.mark.parametrize("way", ["close", "reset"])
def test_an_application_is_told_that_its_client_has_left(run: Run, way: str) -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await receive())
        seen.append(await receive())
        for _ in range(3):  # what is sent now is dropped
            await respond(send, b"too late")
        seen.append(await receive())

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get())
            await until(lambda: len(seen) == 1, "the request has begun")
            getattr(client, way)()
            await until(lambda: len(seen) == 3, "the application is told")
            assert [event["type"] for event in seen] == ["http.request", "http.disconnect", "http.disconnect"]

    run(scenario())


@pytest.mark.parametrize("way", ["shut_down", "close", "reset"])
def test_an_application_is_told_while_nothing_is_read(run: Run, way: str) -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/":
            assert (await receive())["type"] == "http.request"
            seen.append(await receive())
        await respond(send, b"late")

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get() + get("/next"))  # which waits: the transport reads no further
            connection = await client.accepted()
            await until(lambda: connection._reading_paused, "nothing is read")
            getattr(client, way)()
            await until(lambda: seen, "the application is told")
            assert seen == [{"type": "http.disconnect"}]
            if way == "shut_down":
                assert [(await client.answer()).body for _ in range(2)] == [b"late", b"late"]

    run(scenario())


def test_an_end_behind_an_unread_body_comes_after_it(run: Run) -> None:
    bodies: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await ready.wait()
        bodies.append(await read_body(receive))
        assert (await receive())["type"] == "http.disconnect"
        await respond(send, b"read")

    ready = asyncio.Event()

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            sending = asyncio.create_task(client.send(post(bytes(MB))))
            connection = await client.accepted()
            await until(lambda: connection._reading_paused, "nothing is read")
            looks = connection.deadline
            await until(lambda: connection.deadline > looks, "the client's end was looked for")
            ready.set()
            await sending
            client.shut_down()
            assert (await client.answer()).body == b"read"
            assert len(bodies[0]) == MB

    run(scenario())


def test_a_reset_is_noticed_behind_an_unread_body(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await until(lambda: not serving.server.connections, "the connection is lost")
        assert (await receive())["type"] == "http.disconnect"

    serving: Serving

    async def scenario() -> None:
        nonlocal serving
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(*(post(bytes(MB))[begin : begin + 8192] for begin in range(0, 65536, 8192)), bytes(8192))
            connection = await client.accepted()
            await until(lambda: connection._reading_paused, "nothing is read")
            client.reset()
            await until(lambda: not serving.server.running, "the request has ended")

    run(scenario())


def test_a_client_that_leaves_in_the_middle_of_its_body(run: Run) -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while not seen or seen[-1]["type"] != "http.disconnect":
            seen.append(await receive())

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(post(b"hello")[:-2])
            await until(lambda: seen, "the body has begun")
            client.close()
            await until(lambda: not serving.server.running, "the request has ended")
            assert seen[0] == {"type": "http.request", "body": b"hel", "more_body": True}

    run(scenario())


def test_an_endless_response_to_a_client_that_is_gone_lets_the_loop_live(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        while not gone.is_set():
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            await asyncio.sleep(0)
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})

    gone = asyncio.Event()

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get())
            await client.until(b"tick")
            client.reset()
            await until(lambda: not serving.server.connections, "the connection is lost")
            gone.set()

    run(scenario())


# -- clients that do not read ----------------------------------------------------------------------------------------


def test_send_waits_for_a_client_that_does_not_read(run: Run) -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200})
        for _ in range(400):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            sent += 65536
        await send({"type": "http.response.body"})

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect(receive_buffer=65536)
            await client.send(get())
            connection = await client.accepted()
            await until(lambda: connection.is_write_paused, "the client's buffers are full")
            before = sent
            await turns()
            assert sent == before < 25 * MB
            assert connection.transport.get_write_buffer_size() < MB
            assert len((await client.answer()).body) == 400 * 65536

    run(scenario())


@pytest.mark.parametrize("length", [False, True])
def test_a_large_piece_is_not_buffered_as_a_whole(run: Run, length: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, bytes(20 * MB), headers=[(b"content-length", b"%d" % (20 * MB))] if length else [])

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect(receive_buffer=65536)
            await client.send(get() + get("/2"))
            connection = await client.accepted()
            await until(lambda: connection.is_write_paused, "the client's buffers are full")
            assert connection.transport.get_write_buffer_size() < MB
            for _ in range(2):
                assert len((await client.answer()).body) == 20 * MB
            await until(lambda: not serving.server.running, "the last send has returned")

    run(scenario())


@pytest.mark.parametrize("pieces", [100, 1])
def test_requests_are_not_begun_while_the_client_does_not_read_their_responses(run: Run, pieces: int) -> None:
    begun = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal begun
        begun += 1
        await respond(send, bytes(200_000))

    async def scenario() -> None:
        async with Serving(app, send_buffer=4096) as serving:
            client = await serving.connect(receive_buffer=4096)
            requests = [get(f"/{number}") for number in range(100)]
            sending = asyncio.create_task(client.send(*requests if pieces > 1 else [b"".join(requests)]))
            connection = await client.accepted()
            await until(lambda: connection.is_write_paused and connection._waiting, "a request waits")
            await turns()
            assert begun == 1
            assert connection.transport.get_write_buffer_size() < MB
            for _ in range(100):
                assert len((await client.answer()).body) == 200_000
            await sending

    run(scenario())


@pytest.mark.parametrize("leaves", [False, True])
def test_the_last_send_waits_for_nothing(run: Run, leaves: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, bytes(200_000))
        ended.set()

    ended = asyncio.Event()

    async def scenario() -> None:
        async with Serving(app, send_buffer=4096) as serving:
            client = await serving.connect(receive_buffer=4096)
            await client.send(get())
            connection = await client.accepted()
            await until(lambda: connection.is_write_paused, "the client's buffers are full")
            if leaves:
                client.reset()
            else:
                assert len((await client.answer()).body) == 200_000
            await until(ended.is_set, "the application has returned")

    run(scenario())


def test_a_client_that_leaves_ends_the_wait_for_it(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, *[bytes(MB)] * 50)
        ended.append(scope["path"])

    ended: list[str] = []

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect(receive_buffer=65536)
            await client.send(get())
            connection = await client.accepted()
            await until(lambda: connection.is_write_paused, "the client's buffers are full")
            client.reset()
            await until(lambda: ended, "the application has returned")

    run(scenario())


# -- time ------------------------------------------------------------------------------------------------------------


def test_a_silent_connection_is_closed_without_a_word(run: Run) -> None:
    async def scenario() -> None:
        async with Serving(echo, HttpSettings(header_timeout=0.05)) as serving:
            assert await (await serving.connect()).rest() == b""
        async with Serving(echo, HttpSettings(keep_alive_timeout=0.05)) as serving:
            client = await serving.connect()
            await client.send(get())
            assert (await client.answer()).status == 200
            await client.send(b"\r\n")  # begins no request
            assert await client.rest() == b""

    run(scenario())


def test_a_head_has_to_come_in_time(run: Run) -> None:
    async def scenario() -> None:
        async with Serving(echo, HttpSettings(header_timeout=0.3)) as serving:
            for is_first in (True, False):
                client = await serving.connect()
                if not is_first:
                    await client.send(get())
                    assert (await client.answer()).status == 200
                await client.send(b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"A: b\r\n")
                answer = await client.answer()
                assert (answer.status, answer.closes) == (408, True)
                assert await client.rest() == b""

    run(scenario())


@pytest.mark.parametrize("begun", [b"", b"he"])
def test_a_body_has_to_come_in_time(run: Run, begun: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await read_body(receive)
        except ConnectionResetError:
            told.append(scope["path"])

    told: list[str] = []

    async def scenario() -> None:
        async with Serving(app, HttpSettings(body_timeout=0.1)) as serving:
            client = await serving.connect()
            await client.send(get("/", "Content-Length: 5", method="POST"), *[begun] if begun else [])
            answer = await client.answer()
            assert (answer.status, answer.closes) == (408, True)
            assert await client.rest() == b""
            assert told == ["/"]

    run(scenario())


def test_the_time_of_a_body_is_not_that_of_the_application(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.5)
        await echo(scope, receive, send)

    async def scenario() -> None:
        async with Serving(app, HttpSettings(body_timeout=0.3)) as serving:
            client = await serving.connect()
            await client.send(post(b"body"))
            assert (await client.answer()).status == 200
            await client.send(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
            assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(b"body")
            assert (await client.answer()).body == b"POST / body"
            sending = asyncio.create_task(client.send(post(bytes(10 * MB))))
            assert (await client.answer()).status == 200
            await sending

    run(scenario())


def test_a_client_that_expects_an_invitation_has_to_use_it_in_time(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.disconnect"

    async def scenario() -> None:
        async with Serving(app, HttpSettings(body_timeout=0.05)) as serving:
            client = await serving.connect()
            await client.send(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
            assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert (await client.answer()).status == 408

    run(scenario())


def waits_for_room(exchange: Any) -> bool:
    """Whether a file is being sent, to a client that does not read."""
    return exchange.file_waiter is not None


@pytest.mark.parametrize("way", ["stays", "leaves", "resets"])
def test_a_client_that_takes_nothing_of_a_file_is_cut_off(run: Run, way: str, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(50 * MB)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.pathsend", "path": str(large)})

    async def scenario() -> None:
        async with Serving(app, HttpSettings(write_timeout=0.5 if way == "stays" else 3600)) as serving:
            client = await serving.connect(receive_buffer=65536)
            await client.send(get())
            await until(lambda: any(map(waits_for_room, serving.server.running)), "the client's buffers are full")
            if way != "stays":
                (client.close if way == "leaves" else client.reset)()
            await until(lambda: not serving.server.connections, "the connection is cut off")
            await until(lambda: not serving.server.running, "the application is told")
            if way == "stays":
                assert (await client.rest()).endswith(RESET)

    run(scenario())


@pytest.mark.parametrize("after", [b"", get("/pipelined")])
def test_a_client_that_takes_nothing_is_cut_off(run: Run, after: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, *[bytes(MB)] * 50)

    async def scenario() -> None:
        async with Serving(app, HttpSettings(write_timeout=0.5)) as serving:
            client = await serving.connect(receive_buffer=65536)
            await client.send(get())
            connection = await client.accepted()
            await until(lambda: connection.is_write_paused, "the client's buffers are full")
            if after:
                await client.send(after)
            await until(lambda: not serving.server.connections, "the connection is cut off")
            await until(lambda: not serving.server.running, "the application is told")
            assert (await client.rest()).endswith(RESET)

    run(scenario())


def test_a_client_that_takes_little_at_a_time_is_served(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, bytes(8 * MB))

    async def scenario() -> None:
        async with Serving(app, HttpSettings(write_timeout=0.8)) as serving:
            client = await serving.connect(receive_buffer=65536)
            await client.send(get("/", "Connection: close"))
            head = await client.until(b"\r\n\r\n")
            assert b"content-length: %d" % (8 * MB) in head
            for _ in range(32):
                await client.exactly(MB // 4)
                await asyncio.sleep(0.05)
            assert await client.rest() == b""

    run(scenario())


def test_the_last_response_is_not_kept_for_a_client_that_does_not_take_it(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, bytes(200_000))

    async def scenario() -> None:
        async with Serving(app, HttpSettings(write_timeout=0.1), send_buffer=4096) as serving:
            client = await serving.connect(receive_buffer=4096)
            await client.send(get("/", "Connection: close"))
            await until(lambda: serving.server.requests, "the response is written")
            assert client.connection is not None
            await until(lambda: not serving.server.connections, "the connection is cut off")
            assert (await client.rest()).endswith(RESET)

    run(scenario())
