"""WebSockets: each way to the end, and pings."""

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from eggcluster.http import websocket_connection
from tests.unit.http.websocket_site import (
    ACCEPT,
    CLOSE,
    DEADLINE,
    PING,
    PONG,
    TEXT,
    Event,
    Receive,
    Run,
    Send,
    Site,
    close,
    frame,
    listen,
    run_websockets,  # noqa: F401
    upgrade,
)
from tests.waiting import until


def closed_with(closed: ConnectionClosed) -> tuple[int, str] | None:
    return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd is not None else None


async def end_of(client: ClientConnection) -> tuple[int, str] | None:
    """Return the code and reason with which the server closes."""
    with pytest.raises(ConnectionClosed) as closed:
        await asyncio.wait_for(client.recv(), DEADLINE)
    return closed_with(closed.value)


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(record.exc_info[1]) for record in caplog.records if record.exc_info]


# -- the application ends it -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "end"),
    [
        ({}, (1000, "")),
        ({"code": None, "reason": None}, (1000, "")),
        ({"code": 4001, "reason": "enough"}, (4001, "enough")),
        ({"code": 3000, "reason": "é" * 100}, (3000, "é" * 61)),  # 123 bytes at most: a control frame has no more
    ],
)
def test_the_application_closes_and_hears_of_it_itself(run: Run, event: Event, end: tuple[int, str]) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close", **event})
        await receive()

    async def work() -> None:
        async with Site(app) as site:
            async with connect(site.url, proxy=None) as client:
                assert await end_of(client) == end
            await site.wait_idle()
            assert site.end is not None
            assert site.end[0] == end[0]
            assert site.errors == []

    run(work())


def test_a_code_that_must_not_be_sent_is_the_applications_error(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": 1006})

    async def work() -> None:
        async with Site(app) as site, connect(site.url, proxy=None) as client:
            assert await end_of(client) == (1011, "")

    run(work())
    assert len(failures(caplog)) == 1


def test_an_application_that_raises_after_accept_closes_with_1011(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        raise ValueError("broken")

    async def work() -> None:
        async with Site(app) as site, connect(site.url, proxy=None) as client:
            assert await end_of(client) == (1011, "")
            await site.wait_idle()

    run(work())
    assert failures(caplog) == ["broken"]


def test_an_application_that_returns_closes_with_1000(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)

    async def work() -> None:
        async with Site(app) as site, connect(site.url, proxy=None) as client:
            assert await end_of(client) == (1000, "")

    run(work())
    assert caplog.records == []


def test_what_another_websocket_raises_is_this_applications_error(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """A chat that does not expect one of its clients to be gone."""
    sends: list[Send] = []

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        sends.append(send)
        if (await receive())["type"] == "websocket.receive":
            await sends[0]({"type": "websocket.send", "text": "hello"})

    async def work() -> None:
        async with Site(app) as site:
            async with connect(site.url, proxy=None):
                pass
            async with connect(site.url, proxy=None) as client:
                await client.send("hello")
                assert await end_of(client) == (1011, "")

    run(work())
    assert failures(caplog) == ["the WebSocket is closed"]


# -- the client ends it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "end"),
    [(close(4002, b"bye"), (4002, "bye")), (close(1001), (1001, "")), (frame(CLOSE), (1005, ""))],
)
def test_the_clients_close_is_answered_and_told(run: Run, sent: bytes, end: tuple[int, str]) -> None:
    async def work() -> None:
        async with Site(listen) as site, site.raw() as client:
            client.write(frame(TEXT, b"last") + sent)
            assert await site.wait_end(end[0]) == end[1]
            answer = await client.read_rest()
            assert answer.endswith(bytes((0x80 | CLOSE, len(sent) - 6)) + sent[6:])
            await site.wait_idle()
            assert [event.get("text") for event in site.events] == [None, "last", None]

    run(work())


@pytest.mark.parametrize("way", ["close", "half-close", "reset"])
def test_a_client_that_is_gone_without_a_word_is_1006_at_once(run: Run, way: str) -> None:
    async def work() -> None:
        async with Site() as site, site.raw() as client:
            client.write(frame(TEXT, b"last"))
            await client.read_frame()
            if way == "close":
                client.writer.close()
            elif way == "half-close":
                client.writer.write_eof()
                assert await client.read_rest() == b""
            else:
                client.writer.transport.abort()
            assert await site.wait_end(1006) == ""
            await site.wait_idle()

    run(work())


def test_messages_that_came_before_the_end_are_received_before_it(run: Run) -> None:
    go_on = asyncio.Event()

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await go_on.wait()
        while (await receive())["type"] == "websocket.receive":
            pass

    async def work() -> None:
        async with Site(app) as site:
            async with site.raw() as client:
                client.write(frame(TEXT, b"x" * 1000) * 100 + close(4003))  # more than the queue takes
                client.writer.write_eof()
                assert await client.read_rest() == b""
            go_on.set()
            await site.wait_end(4003)
            assert len(site.events) == 102

    run(work())


def test_send_after_the_client_has_gone_raises_an_oserror_and_close_does_not(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        await send({"type": "websocket.close"})
        with pytest.raises(OSError, match="the WebSocket is closed"):
            await send({"type": "websocket.send", "text": "hello"})
        await send({"type": "websocket.send", "text": "hello"})

    async def work() -> None:
        async with Site(app) as site:
            async with connect(site.url, proxy=None):
                pass
            await site.wait_idle()
            assert [type(error).__name__ for error in site.errors] == ["ClientDisconnected"]

    run(work())
    assert caplog.records == []


def test_the_end_can_be_received_again_and_does_not_stop_the_loop(run: Run) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        while True:  # an application that ignores the end
            await receive()

    async def work() -> None:
        async with Site(app) as site:
            async with connect(site.url, proxy=None):
                pass
            await site.wait_end(1000)
            before = len(site.events)
            await until(lambda: len(site.events) > before + 10, "the end, again", DEADLINE)

    run(work())


# -- the server ends it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1012, 1001])
def test_a_quiet_websocket_is_closed_by_a_drain_and_says_why(run: Run, code: int) -> None:
    async def work() -> None:
        async with Site() as site:
            site.server.is_final = lambda: code == 1001
            async with connect(site.url + "chat?a", proxy=None) as client:
                await client.send("hello")
                await client.recv()
                connection = site.connection
                assert (connection.activity, connection.path) == ("WebSocket", "/chat")
                connection.end_when_quiet(1.3)
                assert connection.activity == "WebSocket"  # it was not quiet
                await asyncio.sleep(0.35)
                connection.end_when_quiet(1.3)
                assert connection.activity is None
                assert await end_of(client) == (code, "")
            await site.wait_end(code)
            await site.wait_idle()

    run(work())


def test_a_websocket_whose_messages_wait_is_not_quiet(run: Run) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await asyncio.sleep(1000)

    async def work() -> None:
        async with Site(app) as site, site.raw() as client:
            client.write(frame(TEXT, b"hello"))
            await asyncio.sleep(0.4)
            site.connection.end_when_quiet(0)
            assert site.connection.activity == "WebSocket"

    run(work())


def test_a_cut_is_1012_after_accept_and_503_before(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/":
            await send(ACCEPT)
        await asyncio.sleep(1000)

    async def work() -> None:
        async with Site(app) as site:
            async with (
                connect(site.url, proxy=None) as client,
                site.raw(upgrade(target=b"/wait"), accepted=False) as raw,
            ):
                await until(lambda: len(site.events) == 2, "both requests", DEADLINE)
                assert sorted(str(each.activity) for each in site.server.connections) == ["WebSocket", "request"]
                for connection in list(site.server.connections):
                    connection.cut()
                for running in list(site.server.running):
                    running.cancel()
                assert await end_of(client) == (1012, "")
                assert (await raw.read_rest()).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            await site.wait_idle()

    run(work())
    assert caplog.records == []


def test_a_drain_that_becomes_the_end_says_so(run: Run) -> None:
    """A cluster that closes in the middle of a reload: a client that was not told of the restart is told of the end."""
    ends: list[bool] = []

    async def work() -> None:
        async with Site() as site:
            site.server.is_final = lambda: bool(ends)
            async with connect(site.url, proxy=None) as first, connect(site.url, proxy=None) as second:
                former, latter = site.server.connections
                former.cut()
                ends.append(True)
                latter.cut()
                assert {await end_of(first), await end_of(second)} == {(1012, ""), (1001, "")}
            await site.wait_idle()

    run(work())


def test_a_task_that_is_cancelled_closes_its_websocket(run: Run) -> None:
    async def work() -> None:
        async with Site() as site, connect(site.url, proxy=None) as client:
            await client.send("hello")
            await client.recv()
            (running,) = site.server.running
            running.cancel()
            assert await end_of(client) == (1012, "")
            await site.wait_idle()

    run(work())


@pytest.mark.parametrize("first", ["application", "drain", "client"])
def test_goodbye_is_said_once_whatever_the_order(run: Run, first: str) -> None:
    sends: list[Send] = []

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        sends.append(send)
        await send(ACCEPT)
        await receive()
        await send({"type": "websocket.close", "code": 4000})
        await send({"type": "websocket.close", "code": 4001})

    async def work() -> None:
        async with Site(app) as site, site.raw() as client:
            connection = site.connection
            if first == "application":
                await sends[0]({"type": "websocket.close", "code": 4000})
            elif first == "client":
                client.write(close(4002))
            connection.cut() if first != "client" else await site.wait_end(4002)
            connection.cut()
            connection.end_when_quiet(0)
            code = {"application": 4000, "drain": 1012, "client": 4002}[first]
            assert await client.read_close() == (code, "")
            if first != "client":
                client.write(frame(TEXT, b"too late") + close(4003))
            assert await client.read_rest() == b""
            connection.cut()
            connection.close(4004)
            await site.wait_idle()
            assert site.end == (code, "")
            assert len(site.events) == 2  # what came after the close frame is no message any more

    run(work())


def test_a_clients_close_frame_that_waits_behind_messages_answers_the_servers(run: Run) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await asyncio.sleep(0.2)
        await send({"type": "websocket.close", "code": 4000})

    async def work() -> None:
        messages = frame(TEXT, b"x" * 1000) * 90  # the queue takes 64 KiB, and as much is read ahead
        async with Site(app) as site, site.piped(upgrade() + messages + close(4001)) as client:
            await client.read_head()
            assert await client.read_close() == (4000, "")
            assert await client.read_rest() == b""
            await site.wait_idle()

    run(work())


def test_a_client_that_does_not_answer_the_close_frame_is_aborted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_connection, "CLOSE_TIMEOUT", 0.1)

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send(ACCEPT)

    async def work() -> None:
        async with Site(app) as site, site.raw() as client:
            assert await client.read_close() == (1000, "")
            client.write(frame(PING, b"still there") * 3)
            await site.wait_idle()

    run(work())


# -- pings -------------------------------------------------------------------------------------------------------


def test_a_client_that_answers_pings_stays(run: Run) -> None:
    async def work() -> None:
        async with Site(ws_ping_interval=0.03, ws_ping_timeout=0.2) as site, site.raw() as client:
            for _ in range(10):
                opcode, data = await client.read_frame()
                assert opcode == PING
                client.write(frame(PONG, data))
            client.write(frame(TEXT, b"hello"))
            while (received := await client.read_frame())[0] == PING:
                client.write(frame(PONG, received[1]))
            assert received == (TEXT, b"hello")
            assert site.end is None

    run(work())


@pytest.mark.parametrize("pong", [b"", frame(PONG, b"another")])
def test_a_client_without_pongs_is_closed_with_1011_and_aborted_then(
    run: Run, pong: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_connection, "CLOSE_TIMEOUT", 0.1)

    async def work() -> None:
        async with Site(ws_ping_interval=0.05, ws_ping_timeout=0.1) as site, site.raw() as client:
            client.write(pong)
            assert (await client.read_frame())[0] == PING
            client.write(pong)
            assert await client.read_close() == (1011, "keepalive ping timeout")
            assert await site.wait_end(1011) == "keepalive ping timeout"
            await site.wait_idle()

    run(work())


@pytest.mark.parametrize("settings", [{"ws_ping_interval": 0.0}, {"ws_ping_interval": 0.05, "ws_ping_timeout": 0.0}])
def test_pings_and_their_pongs_can_be_switched_off(run: Run, settings: dict[str, Any]) -> None:
    async def work() -> None:
        async with Site(**settings) as site, site.raw() as client:
            await asyncio.sleep(0.3)
            client.write(frame(TEXT, b"hello"))
            opcodes = []
            while (opcode := (await client.read_frame())[0]) == PING:
                opcodes.append(opcode)
            assert opcode == TEXT
            assert bool(opcodes) is bool(settings["ws_ping_interval"])

    run(work())


def test_a_client_whose_pongs_wait_behind_messages_is_not_taken_for_dead(run: Run) -> None:
    """The application does not receive, so the server does not read: the pongs are there, in the client's buffers."""
    go_on = asyncio.Event()

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await go_on.wait()
        await echo_rest(receive, send)

    async def echo_rest(receive: Receive, send: Send) -> None:
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": str(len(event["text"]))})

    async def work() -> None:
        site = Site(app, ws_ping_interval=0.05, ws_ping_timeout=0.1)
        async with site, connect(site.url, proxy=None, compression=None) as client:
            sending = [asyncio.ensure_future(client.send("x" * 60_000)) for _ in range(200)]
            await until(lambda: site.connection._reader._is_paused, "a full queue", DEADLINE)
            await asyncio.sleep(0.4)
            assert site.connection.activity == "WebSocket"
            go_on.set()
            for _ in sending:
                assert await asyncio.wait_for(client.recv(), DEADLINE) == "60000"
                await asyncio.gather(*sending)

    run(work())
