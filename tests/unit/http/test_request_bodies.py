"""The bodies of requests: read, invited, or not wanted, over a loopback socket."""

import asyncio
import time
from typing import Any

import pytest

from eggcluster.http import connection as connection_module
from eggcluster.http import exchange as exchange_module
from eggcluster.http import reader as reader_module
from eggcluster.http.http_settings import HttpSettings
from tests.unit.conftest import Run
from tests.unit.http.wire import Client, Receive, Scope, Send, Serving, echo, get, post, read_body, respond, turns
from tests.unit.serving import run_server  # noqa: F401
from tests.waiting import until

MB = 1024 * 1024


# -- bodies of requests ------------------------------------------------------------------------------------------


def test_a_body_comes_in_pieces(run: Run) -> None:
    events: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while not events or events[-1]["more_body"]:
            events.append(await receive())
        await respond(send, b"".join(event["body"] for event in events))

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get("/", "Content-Length: 6", method="POST"))
            for piece in (b"ab", b"cd", b"ef"):
                count = len(events)
                await client.send(piece)
                await until(lambda count=count: len(events) > count, "the piece has come")  # type: ignore[misc]
            assert (await client.answer()).body == b"abcdef"
            assert events[-1]["more_body"] is False
            assert all(event["type"] == "http.request" for event in events)

    run(scenario())


def test_tiny_chunks_do_not_fill_the_memory(run: Run) -> None:
    may_read = asyncio.Event()
    chunks = b"2\r\nab\r\n" * 20_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await may_read.wait()
        await respond(send, await read_body(receive))

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get("/", "Transfer-Encoding: chunked", method="POST") + chunks)
            await until(lambda: any(each.body_bytes == 40_000 for each in bodies(serving)), "the body has come")
            assert all(len(each.body or ()) <= exchange_module.MOST_PIECES for each in bodies(serving))
            await client.send(b"0\r\n\r\n")
            may_read.set()
            assert (await client.answer()).body == b"ab" * 20_000

    def bodies(serving: Serving) -> list[exchange_module.Exchange]:
        return [each for each in serving.server.running if isinstance(each, exchange_module.Exchange)]

    run(scenario())


def test_a_body_of_tiny_chunks_leaves_others_their_turn(run: Run) -> None:
    """The loop may read on and on in one turn, as long as reading is not paused."""

    async def scenario() -> None:
        async with Serving(echo) as serving:
            client = await serving.connect()
            await client.send(get("/", "Transfer-Encoding: chunked", method="POST"))
            connection = await client.accepted()
            await until(lambda: serving.server.running, "the head has come")
            connection.data_received(b"1\r\na\r\n" * (reader_module.PIECES - 1))
            assert connection.transport.is_reading()
            connection.data_received(b"1\r\na\r\n" * 2)
            assert not connection.transport.is_reading()
            await client.send(b"1\r\na\r\n0\r\n\r\n")
            assert (await client.answer()).body == b"POST / " + b"a" * (reader_module.PIECES + 2)
            assert connection.transport.is_reading()

    run(scenario())


def test_a_body_in_chunks_is_read_without_its_trailers(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        names = b" ".join(name for name, _ in scope["headers"])
        await respond(send, names + b" | " + body)

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            head = get("/", "Transfer-Encoding: chunked", method="POST")
            body = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Admin: yes\r\n\r\n"
            await client.send(head + body + get("/2"))
            assert (await client.answer()).body == b"host transfer-encoding | hello world"
            assert (await client.answer()).body == b"host | "
            await client.send(head, *[body[index : index + 1] for index in range(len(body))])
            assert (await client.answer()).body == b"host transfer-encoding | hello world"

    run(scenario())


def test_trailers_that_would_change_the_request_are_refused(run: Run) -> None:
    async def scenario() -> None:
        async with Serving(read_only) as serving:
            client = await serving.connect()
            await client.send(get("/", "Transfer-Encoding: chunked", method="POST") + b"0\r\nContent-Length: 5\r\n\r\n")
            assert (await client.answer()).status == 400
            assert await client.rest() == b""

    async def read_only(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await echo(scope, receive, send)
        except ConnectionResetError:
            return

    run(scenario())


def test_a_body_is_read_no_faster_than_the_application_takes_it(run: Run) -> None:
    may_read = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await may_read.wait()
        await respond(send, str(len(await read_body(receive))).encode())

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            sending = asyncio.create_task(client.send(post(bytes(10 * MB))))
            connection = await client.accepted()
            await until(lambda: connection._reading_paused, "the reading stops")
            assert connection.exchange.body_bytes < exchange_module.BODY_AHEAD + 256 * 1024  # type: ignore[union-attr]
            assert not sending.done()
            may_read.set()
            assert (await client.answer()).body == str(10 * MB).encode()
            await sending

    run(scenario())


def test_receive_may_be_called_by_several_tasks(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        waiting = [asyncio.ensure_future(receive()) for _ in range(3)]
        await turns(2)
        waiting.pop().cancel()
        await respond(send, b"done")
        for event in await asyncio.gather(*waiting):
            assert event == {"type": "http.disconnect"}
        ended.set()

    ended = asyncio.Event()

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get())
            assert (await client.answer()).body == b"done"
            await ended.wait()

    run(scenario())


# -- Expect: 100-continue ----------------------------------------------------------------------------------------


def test_the_client_is_invited_at_the_first_receive(run: Run) -> None:
    may_read = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await may_read.wait()
        await echo(scope, receive, send)

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            for _ in range(2):
                may_read.clear()
                await client.send(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
                await until(lambda: serving.server.running, "the request has begun")
                await turns()
                assert not client.has_unread()
                may_read.set()
                assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                await client.send(b"bo", b"dy")
                answer = await client.answer()
                assert (answer.status, answer.body) == (200, b"POST / body")

    run(scenario())


def test_no_invitation_to_a_client_that_does_not_wait_for_it(run: Run) -> None:
    async def scenario() -> None:
        async with Serving(echo) as serving:
            client = await serving.connect()
            await client.send(post(b"body", "Expect: 100-continue") + get())
            assert (await client.answer()).body == b"POST / body"
            assert (await client.answer()).body == b"GET / "
            await client.send(post(b"", "Expect: 100-continue"))
            assert (await client.answer()).body == b"POST / "

    run(scenario())


def test_an_answer_without_an_invitation_is_the_last(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"too large", status=413)

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
            answer = await client.answer()  # what comes next may be the body, or another request
            assert (answer.status, answer.closes) == (413, True)
            assert await client.rest() == b""

    run(scenario())


# -- answers to bodies that are not read ---------------------------------------------------------------------------


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, b"too large", status=413)


@pytest.mark.parametrize("lines", [(f"Content-Length: {10 * MB}",), ("Transfer-Encoding: chunked",)])
def test_an_early_answer_reaches_a_client_that_still_sends(run: Run, lines: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with Serving(refuse) as serving:
            client = await serving.connect()
            chunk = b"10000\r\n" + bytes(65536) + b"\r\n" if "chunked" in lines[0] else bytes(65536)
            await client.send(get("/", *lines, method="POST"))
            for _ in range(160):  # reads nothing before all is sent, as many clients do
                await client.send(chunk)
            answer = await client.answer()
            assert (answer.status, answer.body, answer.closes) == (413, b"too large", True)
            assert await client.rest() == b""

    run(scenario())


def test_a_client_that_sends_for_longer_than_the_linger_time_gets_its_answer(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "LINGER_TIME", 0.4)

    async def scenario() -> None:
        async with Serving(refuse) as serving:
            client = await serving.connect()
            await client.send(get("/", f"Content-Length: {10 * MB}", method="POST"))
            await send_on(client, 0.8)
            assert (await client.answer()).status == 413
            assert await client.rest() == b""

    run(scenario())


def test_the_linger_time_begins_with_the_latest_byte_and_not_with_the_tick_before_it(run: Run) -> None:
    async def scenario() -> None:
        async with Serving(refuse) as serving:
            client = await serving.connect()
            await client.send(get("/", f"Content-Length: {10 * MB}", method="POST"))
            assert (await client.answer()).status == 413
            connection = client.connection
            assert connection is not None
            serving.server.now -= 1000  # as if the tick were long ago
            began = serving.server.loop.time()
            connection.data_received(b"x")
            assert connection.deadline >= began + connection_module.LINGER_TIME

    run(scenario())


def test_what_a_late_worker_has_not_read_yet_is_no_silence_of_the_client(run: Run) -> None:
    async def scenario() -> None:
        async with Serving(refuse) as serving:
            client = await serving.connect()
            await client.send(get("/", f"Content-Length: {10 * MB}", method="POST"))
            assert (await client.answer()).status == 413
            connection = client.connection
            assert connection is not None
            client.sock.send(b"x")
            connection.overdue()
            await turns()
            assert client.connection is connection
            connection.overdue()
            await until(lambda: client.connection is None, "a silent client's connection is closed")

    run(scenario())


async def send_on(client: Client, seconds: float = 10) -> None:
    """Send byte by byte."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await client.send(b"x")
        await asyncio.sleep(0.005)


def test_a_client_that_never_stops_sending_is_cut_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LINGER_TIME", 0.1)
    monkeypatch.setattr(connection_module, "LINGER_LIMIT", 0.3)

    async def scenario() -> None:
        async with Serving(refuse) as serving:
            client = await serving.connect()
            await client.send(get("/", f"Content-Length: {10 * MB}", method="POST"))
            sending = asyncio.create_task(send_on(client))
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await sending

    run(scenario())


def test_a_short_body_that_is_not_read_is_dropped_and_the_connection_kept(run: Run) -> None:
    async def scenario() -> None:
        settings = HttpSettings(keep_alive_timeout=0.5)
        async with Serving(refuse, settings) as serving:
            client = await serving.connect()
            for size in (1, 100, exchange_module.SHORT_REST):
                await client.send(get("/", f"Content-Length: {size}", method="POST"))
                assert not (await client.answer()).closes
                await client.send(bytes(size))
            for size in (1, exchange_module.SHORT_REST):
                await client.send(post(bytes(size)) + post(bytes(size)))
                for _ in range(2):
                    assert not (await client.answer()).closes
            assert await client.rest() == b""  # the time without a request has begun after the body
            assert serving.server.requests == 7

    run(scenario())


def test_a_short_body_that_does_not_come_is_not_waited_for_without_end(run: Run) -> None:
    async def scenario() -> None:
        async with Serving(refuse, HttpSettings(body_timeout=0.1)) as serving:
            client = await serving.connect()
            await client.send(get("/", "Content-Length: 5", method="POST"))
            assert (await client.answer()).status == 413
            assert await client.rest() == b""  # no second response to one request

    run(scenario())
