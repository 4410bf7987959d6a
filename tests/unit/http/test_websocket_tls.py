"""WebSockets over TLS, on the wire."""

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from eggcluster.http import websocket_connection
from tests.unit.http.tls_wire import Contexts, make_contexts, make_strict_contexts  # noqa: F401
from tests.unit.http.websocket_site import (
    ACCEPT,
    BINARY,
    CLOSE,
    DEADLINE,
    PING,
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

MB = 1024 * 1024


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages_come_back_whatever_their_size(run: Run, contexts: Contexts, compression: str | None) -> None:
    async def work() -> None:
        async with (
            Site(contexts=contexts) as site,
            connect(site.url, ssl=contexts.client, compression=compression, max_size=None, proxy=None) as client,
        ):
            for size in (0, 1, 70_000, 4 * MB):
                await client.send(b"x" * size)
                assert await asyncio.wait_for(client.recv(), DEADLINE) == b"x" * size

    run(work())


def test_the_scope_says_wss_and_has_the_extension(run: Run, strict_contexts: Contexts) -> None:
    async def work() -> None:
        async with Site(contexts=strict_contexts) as site:
            async with site.raw():
                pass
            (scope,) = site.scopes
            assert scope["scheme"] == "wss"
            assert scope["extensions"].keys() == {"tls", "websocket.http.response"}
            tls = scope["extensions"]["tls"]
            assert (tls["tls_version"], tls["client_cert_name"]) == (0x0304, "CN=localhost")
            assert isinstance(tls["cipher_suite"], int)

    run(work())


def test_a_denial_response_is_read_to_its_end(run: Run, contexts: Contexts) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"x" * MB})

    async def work() -> None:
        async with Site(app, contexts=contexts) as site, site.raw(accepted=False) as client:
            response = await client.read_rest()
            assert response.startswith(b"HTTP/1.1 401 ")
            assert response.endswith(b"x" * MB)
            await site.wait_idle()

    run(work())


# -- ends --------------------------------------------------------------------------------------------------------


def test_either_side_closes_and_the_connection_is_gone_at_once(run: Run, contexts: Contexts) -> None:
    async def work() -> None:
        async with Site(listen, contexts=contexts) as site, site.raw() as client:
            client.write(close(4001, b"enough"))
            assert await client.read_close() == (4001, "enough")
            assert await client.read_rest() == b""
            await site.wait_end(4001)
            await site.wait_idle()
        async with Site(contexts=contexts) as site:
            async with connect(site.url, ssl=contexts.client, proxy=None) as websocket:
                await site.wait_connection()
                site.connection.cut()
                with pytest.raises(ConnectionClosed) as closed:
                    await asyncio.wait_for(websocket.recv(), DEADLINE)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
            await site.wait_idle()

    run(work())


def test_a_client_that_fails_sees_why_and_its_connection_ends_though_it_waits_for_that(
    run: Run, contexts: Contexts
) -> None:
    """It answers the close frame, and waits for the server's end, as RFC 6455, 7.1.1, has it."""

    async def work() -> None:
        async with Site(contexts=contexts, ws_max_size=1000) as site, site.raw() as client:
            client.write(frame(BINARY, bytes(2000)))
            code, _ = await client.read_close()
            assert code == 1009
            client.write(close(1009))
            assert await client.read_rest() == b""
            await site.wait_end(1009)
            await site.wait_idle()

    run(work())


def test_a_client_in_the_middle_of_a_large_message_sees_why_it_ends(run: Run, contexts: Contexts) -> None:
    async def work() -> None:
        async with Site(contexts=contexts, ws_max_size=1000) as site, site.raw() as client:
            client.write(frame(BINARY, bytes(8 * MB)))
            code, _ = await client.read_close()
            assert code == 1009
            await site.wait_end(1009)

    run(work())


@pytest.mark.parametrize("answer", ["late", "never"])
def test_a_client_that_answers_the_close_frame_late_or_never_holds_up_no_other(
    run: Run, contexts: Contexts, answer: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(websocket_connection, "CLOSE_TIMEOUT", 0.3)

    async def work() -> None:
        async with Site(contexts=contexts) as site, site.raw() as client:
            site.connection.cut()
            assert await client.read_close() == (1012, "")
            client.write(frame(TEXT, b"late") + frame(PING, b"late"))
            async with connect(site.url, ssl=contexts.client, proxy=None) as other:
                await other.send("hello")
                assert await asyncio.wait_for(other.recv(), DEADLINE) == "hello"
            await site.wait_end(1012)
            if answer == "late":
                client.write(close(1012))
            await site.wait_idle()
            client.write(close(1012))
            await asyncio.sleep(0.05)

    run(work())
    assert caplog.records == []


def test_a_client_that_leaves_without_a_word_is_1006(run: Run, contexts: Contexts) -> None:
    async def work() -> None:
        for _ in range(2):
            async with Site(listen, contexts=contexts) as site, site.raw() as client:
                client.writer.transport.abort()
                await site.wait_end(1006)
                await site.wait_idle()

    run(work())


# -- backpressure ------------------------------------------------------------------------------------------------


def test_send_waits_while_the_client_does_not_read(run: Run, contexts: Contexts) -> None:
    sent: list[int] = []

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for _ in range(200):
            await send({"type": "websocket.send", "bytes": bytes(MB // 4)})
            sent.append(1)

    async def work() -> None:
        async with Site(app, contexts=contexts) as site, site.raw() as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await until(lambda: site.connection.is_write_paused, "a full buffer", DEADLINE)
            assert len(sent) < 150
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            while (opcode := (await client.read_frame())[0]) == BINARY:
                pass
            assert opcode == CLOSE
            assert len(sent) == 200

    run(work())


def test_reading_pauses_while_the_application_does_not_receive(run: Run, contexts: Contexts) -> None:
    go_on = asyncio.Event()
    count = 400

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await go_on.wait()
        for _ in range(count):
            assert (await receive())["type"] == "websocket.receive"
        await send({"type": "websocket.close"})

    async def work() -> None:
        async with Site(app, contexts=contexts) as site, site.raw(upgrade()) as client:

            async def send_all() -> None:
                for _ in range(count):
                    client.write(frame(BINARY, bytes(MB // 16)))
                    await client.writer.drain()

            sending = asyncio.ensure_future(send_all())
            await until(lambda: site.connection._reader._is_paused, "the server reads no more", DEADLINE)
            await asyncio.sleep(0.2)
            assert not sending.done()
            assert len(site.connection._reader._unparsed) < 2 * MB
            go_on.set()
            await asyncio.wait_for(sending, DEADLINE)
            assert await client.read_close() == (1000, "")

    run(work())
