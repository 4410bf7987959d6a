"""WebSockets: frames and requests as they should not be, too much of them, and what the server fails at itself."""

import asyncio
import zlib
from typing import Any

import pytest
from websockets.asyncio.client import connect

from eggcluster.http import websocket_connection, websocket_reader
from tests.unit.http.websocket_site import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    DEADLINE,
    DEFLATE,
    PING,
    PONG,
    TEXT,
    Event,
    RawClient,
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


def packed(data: bytes) -> bytes:
    """Return the data of a compressed message (RFC 7692, 7.2.1)."""
    compressor = zlib.compressobj(wbits=-12)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def texts(site: Site) -> list[Any]:
    return [event.get("text", event.get("bytes")) for event in site.events if event["type"] == "websocket.receive"]


# -- the handshake -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({b"Sec-WebSocket-Key": None}, 400),
        ({b"Sec-WebSocket-Key": b"short"}, 400),
        ({b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, 400),
        ({b"Sec-WebSocket-Version": None}, 400),
        ({b"Sec-WebSocket-Version": b"8"}, 400),
        ({b"Sec-WebSocket-Extensions": b"a;;b"}, 400),
        ({b"Sec-WebSocket-Protocol": b"a" * 10_000}, 400),
        ({b"Sec-WebSocket-Protocol": b"\xc3\xa9"}, 400),
        ({b"Origin": b"a\r\nOrigin: b"}, 400),
    ],
)
def test_a_bad_handshake_is_refused_and_the_application_not_called(
    run: Run, fields: dict[bytes, bytes | None], status: int
) -> None:
    async def work() -> None:
        async with Site() as site, site.raw(upgrade(fields), accepted=False) as client:
            head, _, body = (await client.read_rest()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"sec-websocket-version: 13" in head
            assert b"connection: close" in head
            assert b"content-length: %d" % len(body) in head
            await site.wait_idle()
            assert site.scopes == []

    run(work())


@pytest.mark.parametrize("size", [1, 65_450, 100_000])  # 65,450: with the request, more than is parsed at once
def test_frames_that_come_with_the_request_are_received_after_accept(run: Run, size: int) -> None:
    async def work() -> None:
        async with Site() as site, site.piped(upgrade() + frame(TEXT, b"x" * size)) as client:
            await client.read_head()
            assert await client.read_frame() == (TEXT, b"x" * size)
            client.write(frame(TEXT, b"more"))
            assert await client.read_frame() == (TEXT, b"more")

    run(work())


def test_a_client_that_does_not_wait_for_accept_is_read_only_so_far(run: Run) -> None:
    go_on = asyncio.Event()

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await listen(scope, receive, send)

    async def work() -> None:
        async with Site(app) as site, site.raw(accepted=False) as client:
            for number in range(1000):
                client.write(frame(TEXT, b"%d" % number + b"x" * 10_000))
            reader = (await site.wait_connection())._reader
            await until(lambda: reader._is_paused, "no more reading", DEADLINE)
            go_on.set()
            await client.read_head()
            await until(lambda: len(texts(site)) == 1000, "all messages", DEADLINE)
            assert [str(text).rstrip("x") for text in texts(site)] == [str(number) for number in range(1000)]

    run(work())


def test_early_frames_do_not_reset_a_refusal(run: Run) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await until(lambda: site.connection._reader.has_unparsed)
        await send({"type": "websocket.close"})

    site = Site(app)

    async def work() -> None:
        async with site, site.raw(upgrade() + frame(TEXT, b"x" * 5000), accepted=False) as client:
            head = await client.read_head()
            assert head.startswith(b"HTTP/1.1 403 ")
            for _ in range(20):
                client.write(frame(TEXT, b"x" * 5000))
                await asyncio.sleep(0.001)
            assert await client.read_rest() == b"Forbidden"
            client.writer.close()
            await site.wait_idle()

    run(work())


def test_a_request_for_a_websocket_behind_another_request_is_served_after_it(run: Run) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await listen(scope, receive, send)
            return
        await asyncio.sleep(0.05)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def work() -> None:
        request = b"GET / HTTP/1.1\r\nHost: cluster\r\n\r\n" + upgrade() + frame(TEXT, b"hello")
        async with Site(app) as site, site.raw(request, accepted=False) as client:
            assert (await client.read_head()).startswith(b"HTTP/1.1 200")
            assert await client.reader.readexactly(2) == b"ok"
            assert (await client.read_head()).startswith(b"HTTP/1.1 101")
            client.write(frame(TEXT, b"again") + close(1000))
            await site.wait_end(1000)
            assert texts(site) == ["hello", "again"]

    run(work())


# -- frames ------------------------------------------------------------------------------------------------------


def test_fragments_are_joined_and_a_ping_between_them_is_answered(run: Run) -> None:
    async def work() -> None:
        async with Site(listen) as site, site.raw() as client:
            e, acute = "é".encode()[:1], "é".encode()[1:]
            client.write(frame(TEXT, b"caf" + e, final=False) + frame(PING, b"?") + frame(CONTINUATION, final=False))
            assert await client.read_frame() == (PONG, b"?")
            client.write(frame(CONTINUATION, acute) + frame(BINARY, b"\0", final=False) + frame(CONTINUATION, b"\xff"))
            client.write(frame(TEXT) + frame(TEXT, b"", final=False) + frame(CONTINUATION, b"end"))
            await until(lambda: len(texts(site)) == 4, "all messages", DEADLINE)
            assert texts(site) == ["café", b"\0\xff", "", "end"]

    run(work())


def test_tiny_fragments_leave_others_their_turn(run: Run) -> None:
    count = 50_000
    received: list[Event] = []

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        received.append(await receive())

    async def work() -> None:
        async with Site(app) as site, site.raw():
            connection, loop, turns = site.connection, asyncio.get_running_loop(), 0
            rest = frame(CONTINUATION, b"x", final=False) * count + frame(CONTINUATION)
            loop.call_soon(connection.data_received, frame(TEXT, b"x", final=False) + rest)
            while not received:
                turns += 1
                await asyncio.sleep(0)
            assert received[0]["text"] == "x" * (count + 1)
            assert turns >= count // websocket_reader.FRAMES // 3  # a slice has some more frames

    run(work())


def test_compressed_fragments_are_unpacked_and_joined(run: Run) -> None:
    async def work() -> None:
        async with Site(listen) as site, site.raw(upgrade(DEFLATE)) as client:
            data = packed(b"hello, " * 100)
            client.write(frame(TEXT, data[:5], final=False, rsv1=True) + frame(CONTINUATION, data[5:]))
            client.write(frame(TEXT, b"plain"))
            await until(lambda: len(texts(site)) == 2, "all messages", DEADLINE)
            assert texts(site) == ["hello, " * 100, "plain"]

    run(work())


@pytest.mark.parametrize(
    "wrong",
    [
        frame(TEXT, b"hello", masked=False),
        frame(TEXT, b"hello", rsv1=True),
        frame(3),
        frame(CONTINUATION, b"of nothing"),
        frame(TEXT, b"a", final=False) + frame(TEXT, b"b"),
        frame(PING, b"a", final=False),
        frame(PING, b"x" * 126),
        frame(CLOSE, b"x"),
        close(1006),
        frame(TEXT, b"a", final=False) + close(1000),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_against_the_protocol_ends_with_1002(run: Run, wrong: bytes) -> None:
    async def work() -> None:
        async with Site(listen) as site, site.raw() as client:
            client.write(frame(TEXT, b"before") + wrong + frame(TEXT, b"behind"))
            code, reason = await client.read_close()
            assert code == 1002
            assert await client.read_rest() == b""
            assert await site.wait_end(1002) == reason
            assert texts(site) == ["before"]
            client.writer.close()
            await site.wait_idle()

    run(work())


@pytest.mark.parametrize(
    "wrong",
    [
        frame(TEXT, b"\xff"),
        frame(TEXT, "é".encode()[:1]),
        frame(TEXT, b"\xed\xa0\x80"),
        frame(TEXT, b"a", final=False) + frame(CONTINUATION, b"\xff"),
        frame(CLOSE, b"\x03\xe8\xff"),
    ],
)
def test_invalid_utf_8_ends_with_1007(run: Run, wrong: bytes) -> None:
    async def work() -> None:
        async with Site(listen) as site, site.raw() as client:
            client.write(frame(BINARY, b"\xff") + wrong + frame(TEXT, b"behind"))
            assert (await client.read_close())[0] == 1007
            assert await client.read_rest() == b""
            await site.wait_end(1007)
            assert texts(site) == [b"\xff"]
            client.writer.close()
            await site.wait_idle()

    run(work())


BOUND = 10_000


@pytest.mark.parametrize(
    "large",
    [
        frame(BINARY, b"x" * (BOUND + 1)),
        frame(BINARY, b"x" * BOUND, final=False) + frame(CONTINUATION, b"x"),
        frame(BINARY, packed(b"x" * (BOUND + 1)), rsv1=True),
        frame(BINARY, packed(bytes(10_000_000)), rsv1=True),
        frame(BINARY, packed(b"x" * BOUND)[:-1], rsv1=True, final=False) + frame(CONTINUATION, packed(b"x" * BOUND)),
    ],
)
def test_a_message_over_the_bound_ends_with_1009(run: Run, large: bytes) -> None:
    async def work() -> None:
        async with Site(listen, ws_max_size=BOUND) as site, site.raw(upgrade(DEFLATE)) as client:
            client.write(frame(BINARY, b"before") + large)
            assert (await client.read_close())[0] == 1009
            await site.wait_end(1009)
            assert texts(site) == [b"before"]

    run(work())


@pytest.mark.parametrize("bound", [BOUND, 0])
def test_a_message_of_the_very_bound_is_received(run: Run, bound: int) -> None:
    async def work() -> None:
        async with Site(listen, ws_max_size=bound) as site, site.raw(upgrade(DEFLATE)) as client:
            whole = b"x" * BOUND
            client.write(frame(BINARY, whole) + frame(BINARY, packed(whole), rsv1=True))
            client.write(frame(BINARY, whole[:-1], final=False) + frame(CONTINUATION, b"x"))
            await until(lambda: len(texts(site)) == 3, "all messages", DEADLINE)
            assert texts(site) == [whole] * 3

    run(work())


def test_a_client_in_the_middle_of_a_large_message_sees_why_it_ends(run: Run) -> None:
    """It goes on sending, and gets no reset: that would take the close frame away."""

    async def work() -> None:
        async with Site(listen, ws_max_size=BOUND) as site, site.raw() as client:
            client.write(frame(BINARY, bytes(10_000_000))[:BOUND])
            for _ in range(20):
                client.write(bytes(BOUND))
                await asyncio.sleep(0.002)
            assert (await client.read_close())[0] == 1009
            await asyncio.wait_for(client.write_on(bytes(BOUND)), DEADLINE)
            client.writer.close()
            await site.wait_idle()

    run(work())


def test_a_client_that_never_ends_after_a_failure_is_aborted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_connection, "CLOSE_TIMEOUT", 0.1)

    async def work() -> None:
        async with Site(listen) as site, site.raw() as client:
            client.write(frame(3))
            assert (await client.read_close())[0] == 1002
            while site.server.is_busy:
                client.write(frame(TEXT, b"x" * 1000))
                await asyncio.sleep(0.005)

    run(work())


# -- too much ----------------------------------------------------------------------------------------------------


def test_reading_pauses_while_the_application_does_not_receive(run: Run) -> None:
    go_on = asyncio.Event()

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await go_on.wait()
        await listen_on(receive)

    async def listen_on(receive: Receive) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def work() -> None:
        async with Site(app) as site, site.raw() as client:
            for number in range(2000):
                client.write(frame(TEXT, b"%d" % number + b"x" * 10_000))
            client.write(close(4000))
            reader = site.connection._reader
            await until(lambda: reader._is_paused, "no more reading", DEADLINE)
            await asyncio.sleep(0.05)
            waiting = reader.queue._size + len(reader._unparsed)
            assert waiting < 600_000  # two bounds of 64 KiB, and what the loop reads at once
            assert client.writer.transport.get_write_buffer_size() > 1_000_000
            go_on.set()
            await site.wait_end(4000)
            assert [str(text).rstrip("x") for text in texts(site)] == [str(number) for number in range(2000)]

    run(work())


def test_small_compressed_messages_do_not_fill_the_memory(run: Run) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await asyncio.sleep(1000)

    async def work() -> None:
        async with Site(app) as site, site.raw(upgrade(DEFLATE)) as client:
            client.write(frame(BINARY, packed(bytes(1_000_000)), rsv1=True) * 100)
            client.write(frame(BINARY) * 100_000)
            reader = site.connection._reader
            await until(lambda: reader._is_paused, "no more reading", DEADLINE)
            assert reader.queue._size < 20_000_000  # of 100 MB: a slice's worth
            assert len(reader.queue._events) < 1000

    run(work())


def test_send_waits_while_the_client_does_not_read(run: Run) -> None:
    sent = 0

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(ACCEPT)
        for _ in range(1000):
            await send({"type": "websocket.send", "bytes": bytes(50_000)})
            sent += 1

    async def work() -> None:
        async with Site(app) as site, connect(site.url, proxy=None, compression=None, max_queue=1) as client:
            client.transport.pause_reading()
            await until(lambda: site.connection.is_write_paused, "a full buffer", DEADLINE)
            await asyncio.sleep(0.05)
            assert sent < 500
            assert site.connection.transport.get_write_buffer_size() < 200_000
            client.transport.resume_reading()
            for _ in range(1000):
                assert len(await asyncio.wait_for(client.recv(), DEADLINE)) == 50_000

    run(work())


@pytest.mark.parametrize("way", ["left", "silent"])
def test_a_send_that_waits_ends_with_its_client(run: Run, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """One that has left; and one that takes nothing for the write timeout."""

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        while True:
            await send({"type": "websocket.send", "bytes": bytes(100_000)})

    async def work() -> None:
        async with Site(app, write_timeout=0.2 if way == "silent" else 60) as site, site.raw() as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await until(lambda: site.connection.is_write_paused, "a full buffer", DEADLINE)
            if way == "left":
                client.writer.transport.abort()
            await site.wait_idle()
            assert [type(error).__name__ for error in site.errors] == ["ClientDisconnected"]

    run(work())
    assert caplog.records == []


def test_a_client_that_pings_and_does_not_read_gets_the_last_pong_later(run: Run) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        for _ in range(100):
            await send({"type": "websocket.send", "bytes": bytes(100_000)})
        await receive()

    async def read_all(client: RawClient) -> list[bytes]:
        pongs: list[bytes] = []
        for _ in range(100):
            while (received := await client.read_frame())[0] == PONG:
                pongs.append(received[1])
        while b"last" not in pongs:
            opcode, data = await client.read_frame()
            assert opcode == PONG
            pongs.append(data)
        return pongs

    async def work() -> None:
        async with Site(app) as site, site.raw() as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await until(lambda: site.connection.is_write_paused, "a full buffer", DEADLINE)
            queued = site.connection.transport.get_write_buffer_size()
            client.write(frame(PING, b"x" * 100) * 10_000 + frame(PING, b"last"))
            await until(lambda: site.connection._held_pong[2:] == b"last", "the last ping", DEADLINE)
            assert site.connection.transport.get_write_buffer_size() <= queued
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert len(await read_all(client)) < 1000

    run(work())


def test_an_application_that_only_sends_ends_with_its_client(run: Run) -> None:
    sent = 0

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(ACCEPT)
        while sent < 200_000:
            await send({"type": "websocket.send", "text": "x"})
            sent += 1

    async def work() -> None:
        async with Site(app) as site, site.raw() as client:
            await client.read_frame()
            client.writer.transport.abort()
            await site.wait_idle()
            assert sent < 200_000

    run(work())


def test_a_client_that_pings_a_closing_server_and_does_not_read_gets_no_pongs_stored(run: Run) -> None:
    """Pongs of ten seconds would be 100 MB."""
    pings = frame(PING, b"x" * 100) * 10_000

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        for _ in range(100):
            await send({"type": "websocket.send", "bytes": bytes(100_000)})

    async def work() -> None:
        async with Site(app) as site, site.raw() as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await until(lambda: site.connection.is_write_paused, "a full buffer", DEADLINE)
            site.connection.cut()
            queued = site.connection.transport.get_write_buffer_size()
            client.write(pings + frame(PING, b"last"))
            await until(lambda: site.connection._held_pong[2:] == b"last", "the last ping", DEADLINE)
            assert site.connection.transport.get_write_buffer_size() <= queued

    run(work())


# -- what the server fails at ------------------------------------------------------------------------------------


def test_what_reading_from_one_websocket_raises_stays_with_it_and_is_logged(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deliver = websocket_reader.WebSocketReader._deliver

    def fragile(self: Any, protocol: Any, opcode: int, data: bytes) -> None:
        if data == b"break":
            raise ValueError("broken")
        deliver(self, protocol, opcode, data)

    monkeypatch.setattr(websocket_reader.WebSocketReader, "_deliver", fragile)

    async def work() -> None:
        async with Site() as site, connect(site.url, proxy=None) as other:
            async with site.raw() as client:
                client.write(frame(TEXT, b"break"))
                with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                    await client.read_frame()
            await site.wait_end(1006)
            await other.send("hello")
            assert await asyncio.wait_for(other.recv(), DEADLINE) == "hello"

    run(work())
    assert [record.getMessage() for record in caplog.records] == ["reading from a WebSocket failed"]
