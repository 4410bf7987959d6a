"""The drain: each connection gets an end that its client understands, and none holds the drain up for too long."""

import asyncio
import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from eggcluster.http.connection import HttpConnection
from eggcluster.http.drain import quiet_needed
from eggcluster.options import ResolvedOptions
from eggcluster.worker.app.app_lifecycle import drain_limit
from tests.unit.conftest import Run
from tests.unit.serving import run_server  # noqa: F401
from tests.unit.test_http_engine import REQUEST, Client, Receive, Send, Standing, scheme
from tests.waiting import until

CLOSE = b"connection: close"


async def stage(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """An application that answers at once, late, in pieces, never, or over a WebSocket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    elif scope["path"] == "/pieces":
        await pieces(send, 10)
    elif scope["path"] == "/broken":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"piece", "more_body": True})
        await asyncio.sleep(0.3)  # and returns in the middle, as sse-starlette does where the server closes
    elif scope["path"] == "/endless":
        await pieces(send, 100000)
    else:
        await asyncio.sleep({"/late": 0.3, "/never": 1000}.get(scope["path"], 0))
        await scheme(scope, receive, send)


async def pieces(send: Send, count: int) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(count):
        await send({"type": "http.response.body", "body": b"piece", "more_body": True})
        await asyncio.sleep(0.03)
    await send({"type": "http.response.body", "body": b""})


def ask(client: Client, path: str) -> None:
    client.writer.write(REQUEST.replace(b"GET /", f"GET {path}".encode()))


async def began(standing: Standing) -> None:
    """Wait until something is being answered."""
    while not standing.server.running:
        await asyncio.sleep(0)


def drained(work: Callable[[Standing, Callable[[float], asyncio.Task[None]]], Awaitable[None]], run: Run) -> None:
    """Run `work` with a standing engine and what starts its drain."""

    async def whole() -> None:
        async with Standing(app=stage) as standing:
            await work(standing, lambda limit: asyncio.ensure_future(standing.engine.drain(limit)))

    run(whole())


Drain = Callable[[float], asyncio.Task[None]]


# -- what is done within the limit -------------------------------------------------------------------------------


def test_an_idle_connection_gets_one_more_answer_that_says_close(run: Run) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        client = await standing.connect()
        assert CLOSE not in (await client.get())[0]
        draining = drain(5)
        await asyncio.sleep(0.1)
        head, body = await client.get()
        assert CLOSE in head
        assert body
        assert await client.reader.read() == b""
        client.writer.close()
        await asyncio.wait_for(draining, 1)

    drained(work, run)


def test_a_request_in_flight_is_answered_with_close(run: Run) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        client = await standing.connect()
        ask(client, "/late")
        await began(standing)
        draining = drain(5)
        answer = await client.reader.read()
        assert CLOSE in answer
        assert answer.endswith(b"%d" % client.port)
        client.writer.close()
        await asyncio.wait_for(draining, 1)

    drained(work, run)


def test_a_stream_that_had_begun_ends_and_the_next_request_is_answered_with_close(run: Run) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        client = await standing.connect()
        ask(client, "/pieces")
        assert CLOSE not in await client.reader.readuntil(b"\r\n\r\n")
        draining = drain(5)
        assert (await client.reader.readuntil(b"\r\n0\r\n\r\n")).count(b"piece") == 10
        assert CLOSE in (await client.get())[0]  # nothing had said so: the client could not know
        client.writer.close()
        await asyncio.wait_for(draining, 1)

    drained(work, run)


def test_a_client_that_leaves_a_stream_which_broke_off_does_not_hold_up_the_drain(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eggcluster.http.connection.LINGER_TIME", 60.0)

    async def work(standing: Standing, drain: Drain) -> None:
        client = await standing.connect()
        ask(client, "/broken")
        await client.reader.readuntil(b"piece")
        draining = drain(60)
        assert b"\r\n0\r\n" not in await client.reader.read(), "the client can tell that it is not complete"
        client.writer.close()
        await asyncio.wait_for(draining, 10)

    drained(work, run)


def test_a_client_that_still_sends_gets_the_answer_and_no_reset(run: Run) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        client = await standing.connect()
        draining = drain(5)
        await asyncio.sleep(0.05)
        client.writer.write(b"POST / HTTP/1.1\r\nhost: cluster\r\ncontent-length: 100000\r\n\r\n")
        assert CLOSE in await client.reader.readuntil(b"\r\n\r\n")  # it does not want the body
        for _ in range(10):
            client.writer.write(bytes(10000))
            await client.writer.drain()
            await asyncio.sleep(0.005)
        assert (await client.reader.read()).endswith(b"%d" % client.port)
        client.writer.close()
        await asyncio.wait_for(draining, 1)

    drained(work, run)


def test_a_connection_that_is_accepted_while_the_others_end_is_served(run: Run) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        first = await standing.connect()
        ask(first, "/late")
        await began(standing)
        draining = drain(5)
        await asyncio.sleep(0)
        second = await standing.connect()
        assert CLOSE in (await second.get())[0]
        assert CLOSE in await first.reader.read()
        for client in (first, second):
            client.writer.close()
        await asyncio.wait_for(draining, 1)

    drained(work, run)


def test_silent_connections_are_closed_and_do_not_hold_up_the_drain(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        clients = [await standing.connect() for _ in range(3)]
        await clients[0].get()
        start = time.monotonic()
        await drain(5)
        assert 1.2 < time.monotonic() - start < 2.5
        for client in clients:
            assert await client.reader.read() == b""

    drained(work, run)
    assert not caplog.records


def test_a_tls_handshake_under_way_is_finished_and_its_request_answered(
    run: Run, tls: tuple[ResolvedOptions, ssl.SSLContext]
) -> None:
    async def work() -> None:
        options, context = tls
        async with Standing(options) as standing:
            opening = asyncio.ensure_future(asyncio.open_connection(*standing.listener.getsockname(), ssl=context))
            await standing.accept(tls=True)
            draining = asyncio.ensure_future(standing.engine.drain(5))
            client = Client(*await opening)
            assert CLOSE in (await client.get())[0]
            client.writer.close()
            await asyncio.wait_for(draining, 2)

    run(work())


def test_a_client_that_never_shakes_hands_does_not_hold_up_the_drain(
    run: Run, tls: tuple[ResolvedOptions, ssl.SSLContext]
) -> None:
    async def work() -> None:
        async with Standing(tls[0]) as standing:
            reader, _ = await asyncio.open_connection(*standing.listener.getsockname())
            await standing.accept(tls=True)
            await asyncio.wait_for(standing.engine.drain(5), 2)
            assert await reader.read() == b""

    run(work())


def test_a_client_behind_tls_is_answered_once_more_and_its_connection_ends_in_order(
    run: Run, tls: tuple[ResolvedOptions, ssl.SSLContext]
) -> None:
    async def work() -> None:
        async with Standing(tls[0], app=stage) as standing:
            client, late, silent = [await standing.connect(tls[1]) for _ in range(3)]
            for each in (client, silent):
                assert CLOSE not in (await each.get())[0]
            ask(late, "/late")
            await began(standing)
            draining = asyncio.ensure_future(standing.engine.drain(5))
            while not standing.server.is_draining:
                await asyncio.sleep(0)
            assert CLOSE in (await client.get())[0]
            for each in (client, late, silent):  # an end without close_notify raises
                answer = await each.reader.read()
                assert answer.startswith(b"HTTP/1.1 200 ") is (each is late)
            await asyncio.wait_for(draining, 4)

    run(work())


def test_the_more_clients_are_silent_the_longer_each_of_them_must_have_been() -> None:
    assert quiet_needed(1) == quiet_needed(13) == 1.3
    assert quiet_needed(200) == 20


# -- what is not -------------------------------------------------------------------------------------------------


def test_what_outlasts_the_limit_is_cut_as_its_protocol_has_it_and_logged_in_one_line(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        stream, request = await standing.connect(), await standing.connect()
        ask(stream, "/endless")
        ask(request, "/never")
        host, port = standing.address
        async with connect(f"ws://{host}:{port}/chat", proxy=None) as websocket:
            chatting = asyncio.ensure_future(chat(websocket))
            await stream.reader.readuntil(b"piece")
            await drain(1)
            assert await chatting == 1012
        rest = await stream.reader.read()
        assert b"piece" in rest
        assert not rest.endswith(b"0\r\n\r\n")  # it must not look complete
        answer = await request.reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert CLOSE in answer

    drained(work, run)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("the drain took longer than 0.")
    for part in ("1 stream (/endless)", "1 request (/never)", "1 WebSocket (/chat)"):
        assert part in line


async def chat(websocket: Any) -> int | None:
    """Talk without a pause; gives the code with which the server ends it."""
    try:
        while True:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
            await asyncio.sleep(0.01)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else None


def test_a_websocket_is_told_of_the_restart_between_two_messages(run: Run) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        host, port = standing.address
        async with connect(f"ws://{host}:{port}/", proxy=None) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
            draining = drain(5)
            with pytest.raises(ConnectionClosed) as closed:
                await websocket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        await asyncio.wait_for(draining, 1.5)

    drained(work, run)


def test_a_wsgi_request_that_outlasts_the_limit_is_cut_without_a_traceback(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    ended = threading.Event()

    def endless(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [("content-type", "text/plain")])
        try:
            while True:
                time.sleep(0.01)
                yield b"piece"
        finally:
            ended.set()

    async def work() -> None:
        async with Standing(app=endless, interface="wsgi") as standing:
            client = await standing.connect()
            ask(client, "/feed")
            await client.reader.readuntil(b"piece")
            await standing.engine.drain(0.5)
            assert not (await client.reader.read()).endswith(b"0\r\n\r\n")
            assert await asyncio.to_thread(ended.wait, 5)  # its thread is free again

    with caplog.at_level(logging.INFO):
        run(work())
    assert ["1 stream (/feed)" in record.getMessage() for record in caplog.records] == [True]


def test_writing_to_a_connection_that_was_cut_raises_nothing(run: Run) -> None:
    """The task that writes need not be the request's, which is cancelled: a2wsgi has one of its own."""

    async def work() -> None:
        wrote_to_the_end = asyncio.Event()

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            writing = asyncio.ensure_future(write_on(send))
            try:
                await asyncio.sleep(1000)
            finally:
                await writing

        async def write_on(send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while draining is None or not draining.done():
                await send({"type": "http.response.body", "body": b"piece", "more_body": True})
                await asyncio.sleep(0)
            wrote_to_the_end.set()

        draining: asyncio.Task[None] | None = None
        async with Standing(app=app) as standing:
            client = await standing.connect()
            ask(client, "/feed")
            await client.reader.readuntil(b"piece")
            draining = asyncio.ensure_future(standing.engine.drain(0.5))
            await client.reader.read()
            await draining
            await wrote_to_the_end.wait()

    run(work())


def test_idle_connections_at_the_end_of_a_short_limit_are_no_loss_to_speak_of(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        client = await standing.connect()
        await client.get()
        await drain(0.2)
        assert await client.reader.read() == b""

    drained(work, run)
    assert not caplog.records


@pytest.mark.parametrize("before", [0, 1], ids=["the first", "the second"])
def test_half_a_request_is_waited_for(run: Run, before: int) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        client = await standing.connect()
        for _ in range(before):
            await client.get()
        client.writer.write(REQUEST[:10])
        while not standing.server.connections:
            await asyncio.sleep(0)
        (connection,) = standing.server.connections
        while connection.activity is None:
            await asyncio.sleep(0)
        assert connection.activity == "request"
        connection.end_when_quiet(0.0)
        client.writer.write(REQUEST[10:])
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")

    drained(work, run)


def test_what_is_written_to_a_connection_that_was_closed_goes_nowhere(run: Run) -> None:
    """An application's thread may still be answering; an end of file cannot be written behind."""

    async def work(standing: Standing, drain: Drain) -> None:
        client = await standing.connect()
        await client.get()
        (connection,) = standing.server.connections
        connection.cut()
        cast(HttpConnection, connection).transport.write(b"more")
        assert await client.reader.read() == b""

    drained(work, run)


class Broken:
    """A connection of which one method raises."""

    path = "/broken"

    def __init__(self, all_of_them: set[Any], raises: str) -> None:
        self.deadline = float("inf")
        self._all, self._raises, self.asked = all_of_them, raises, 0
        all_of_them.add(self)

    def _do(self, method: str) -> None:
        if method == self._raises:
            self.asked += 1
            raise RuntimeError(f"no {method}")

    @property
    def activity(self) -> str | None:
        self._do("activity")
        return "request"

    def end_when_quiet(self, quiet: float) -> None:
        self._do("end_when_quiet")

    def cut(self) -> None:
        self._do("cut")

    def overdue(self) -> None:
        self._do("overdue")

    def abort(self) -> None:
        if self._raises == "abort" and not self.asked:
            self._do("abort")
        self._all.discard(self)


@pytest.mark.parametrize("method", ["activity", "end_when_quiet", "cut", "abort"])
def test_what_the_end_of_one_connection_raises_is_logged_and_ends_no_other_drain(
    run: Run, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        clients = [await standing.connect() for _ in range(3)]
        await clients[0].get()
        broken = [Broken(cast(set[Any], standing.server.connections), method) for _ in range(2)]
        await drain(2)
        for client in clients:
            assert await client.reader.read() == b""
        assert [each.asked for each in broken] == [1, 1], "it is not asked again, which would flood the log"
        if method != "abort":
            assert not standing.server.connections

    drained(work, run)
    assert "ending a connection failed" in {record.getMessage() for record in caplog.records}


def test_what_one_overdue_connection_raises_stops_no_deadline_of_the_others(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        connections = cast(set[Any], standing.server.connections)
        broken = [Broken(connections, "overdue") for _ in range(2)]
        for each in broken:
            each.deadline = 0.0
        await until(lambda: all(each.asked for each in broken), "both have had their turn")
        for each in broken:
            each.deadline, each.asked = 0.0, 0
        await until(lambda: all(each.asked for each in broken), "the clock goes on")
        connections.clear()

    drained(work, run)
    assert "ending an overdue connection failed" in {record.getMessage() for record in caplog.records}


class SlowCloser:
    """A WebSocket client that answers the server's close frame late, or never."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @classmethod
    async def open(cls, standing: Standing) -> "SlowCloser":
        client = await standing.connect()
        client.writer.write(
            b"GET /chat HTTP/1.1\r\nhost: cluster\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return cls(client)

    async def read_close(self) -> bytes:
        """The code of the close frame: RFC 6455, 5.5.1."""
        opcode, size = await self.client.reader.readexactly(2)
        assert opcode == 0x88
        return (await self.client.reader.readexactly(size))[:2]

    def answer(self) -> None:
        self.client.writer.write(b"\x88\x82\0\0\0\0\x03\xf4")

    async def rest(self) -> bytes:
        return await self.client.reader.read()


@pytest.mark.parametrize("late", [0.0, 0.32, 1.0])
def test_a_client_that_answers_the_close_frame_late_is_told_once_and_ends_no_other_request(
    run: Run, caplog: pytest.LogCaptureFixture, late: float
) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        websocket, request = await SlowCloser.open(standing), await standing.connect()
        draining = drain(5)
        code = await websocket.read_close()
        assert int.from_bytes(code) == 1012
        ask(request, "/late")
        await asyncio.sleep(late)  # the time is what is tried here
        websocket.answer()
        assert await websocket.rest() == b"", "goodbye is said once"
        answer = await request.reader.read()
        assert answer.startswith(b"HTTP/1.1 200 ")
        request.writer.close()
        await asyncio.wait_for(draining, 2)

    drained(work, run)
    assert not caplog.records


def test_a_client_that_never_answers_the_close_frame_ends_no_other_request_and_no_drain(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(standing: Standing, drain: Drain) -> None:
        websocket, request = await SlowCloser.open(standing), await standing.connect()
        draining = drain(1.5)
        ask(request, "/late")
        assert int.from_bytes(await websocket.read_close()) == 1012
        assert (await request.reader.read()).startswith(b"HTTP/1.1 200 ")
        await draining
        with contextlib.suppress(ConnectionResetError):
            assert await websocket.rest() == b"", "goodbye is said once"
        assert not standing.server.connections

    drained(work, run)
    assert not caplog.records


@pytest.mark.parametrize(
    ("timeout", "drain_timeout", "limit"),
    [(5.0, None, 4.0), (1.0, None, 0.5), (5.0, 250, 0.25), (5.0, 0, 0.0), (5.0, 60_000, 4.0), (0.2, 250, 0.1)],
)
def test_a_drain_leaves_the_hooks_their_time_and_may_be_shorter(
    timeout: float, drain_timeout: int | None, limit: float
) -> None:
    assert drain_limit(timeout, drain_timeout) == limit
