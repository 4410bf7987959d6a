"""Requests over TLS, on the wire: what holds for a plain connection holds here, with close_notify at each end."""

import asyncio
import hashlib
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest

from eggcluster.http.http_settings import HttpSettings
from eggcluster.http.wsgi import WsgiExchange
from tests.unit.conftest import Run
from tests.unit.http.tls_wire import Contexts, TlsClient, TlsServing, make_contexts, make_strict_contexts  # noqa: F401
from tests.unit.http.wire import RESET, Receive, Scope, Send, echo, get, post, respond
from tests.unit.serving import run_server  # noqa: F401
from tests.waiting import until

MB = 1024 * 1024


# -- requests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_connection_serves_one_request_after_the_other(
    run: Run, contexts: Contexts, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts.client, "maximum_version", version)

    async def scenario() -> None:
        async with TlsServing(echo, contexts) as serving:
            client = await serving.connect()
            for number in range(3):
                await client.send(post(b"body", path=f"/{number}"))
                assert (await client.answer()).body == b"POST /%d body" % number
            assert client.encrypted.version() == version.name.replace("_", ".")
            await client.send(get("/", "Connection: close"))
            assert (await client.answer()).closes
            assert await client.rest() == b""

    run(scenario())


def test_pipelined_requests_are_answered_in_order(run: Run, contexts: Contexts) -> None:
    async def scenario() -> None:
        async with TlsServing(echo, contexts) as serving:
            client = await serving.connect()
            await client.send(b"".join(post(b"body", path=f"/{number}") for number in range(50)))
            for number in range(50):
                assert (await client.answer()).body == b"POST /%d body" % number

    run(scenario())


def test_a_wsgi_application_is_served(run: Run, contexts: Contexts) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [environ["wsgi.url_scheme"].encode(), b" ", body]

    async def scenario() -> None:
        async with TlsServing(app, contexts, new_exchange=WsgiExchange) as serving:
            client = await serving.connect()
            await client.send(post(bytes(MB)))
            assert (await client.answer()).body == b"https " + bytes(MB)

    run(scenario())


# -- large bodies ------------------------------------------------------------------------------------------------


def test_an_upload_waits_for_its_application(run: Run, contexts: Contexts) -> None:
    go_on = asyncio.Event()
    size = 48 * MB

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        digest, more = hashlib.sha256(), True
        while more:
            event = await receive()
            digest.update(event["body"])
            more = event["more_body"]
        await respond(send, digest.hexdigest().encode())

    async def scenario() -> None:
        async with TlsServing(app, contexts) as serving:
            client = await serving.connect()
            sent: list[int] = []

            async def upload() -> None:
                await client.send(get("/", f"Content-Length: {size}", method="POST"))
                for _ in range(size // MB):
                    await client.send(bytes(MB))
                    sent.append(MB)

            uploading = asyncio.ensure_future(upload())
            await until(lambda: serving.server.running, "the request has begun")
            await stands_still(lambda: len(sent))
            assert sum(sent) < size // 2
            go_on.set()
            await uploading
            assert (await client.answer()).body == hashlib.sha256(bytes(size)).hexdigest().encode()

    run(scenario())


@pytest.mark.parametrize("piece", [MB // 16, 8 * MB])
def test_a_download_waits_for_its_client(run: Run, contexts: Contexts, piece: int) -> None:
    sent: list[int] = []
    size = 32 * MB

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        for _ in range(size // piece):
            await send({"type": "http.response.body", "body": bytes(piece), "more_body": True})
            sent.append(piece)
        await send({"type": "http.response.body"})

    async def scenario() -> None:
        async with TlsServing(app, contexts) as serving:
            client = await serving.connect()
            await client.send(get())
            await until(lambda: serving.server.running, "the request has begun")
            await stands_still(lambda: len(sent))
            assert sum(sent) < size // 2
            await client.until(b"\r\n\r\n")
            for _ in range(size // (MB // 4)):
                assert await client.exactly(MB // 4) == bytes(MB // 4)

    run(scenario())


async def stands_still(count: Any) -> None:
    """Wait until it has not changed for a while. Too early only makes a test pass that should not."""
    before = -1
    while before != (before := count()):
        await asyncio.sleep(0.15)


def test_a_client_that_takes_little_at_a_time_gets_all_of_one_large_piece(run: Run, contexts: Contexts) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, bytes(4 * MB))

    async def scenario() -> None:
        settings = HttpSettings(write_timeout=0.8, keep_alive_timeout=0.2)
        async with TlsServing(app, contexts, settings, send_buffer=65536) as serving:
            client = await serving.connect(receive_buffer=65536)
            await client.send(get())
            assert b"content-length: %d" % (4 * MB) in await client.until(b"\r\n\r\n")
            for _ in range(64):
                await client.exactly(MB // 16)
                await asyncio.sleep(0.04)
            assert await client.rest() == b""

    run(scenario())


def test_a_client_that_takes_nothing_is_reset(run: Run, contexts: Contexts) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, bytes(8 * MB))

    async def scenario() -> None:
        settings = HttpSettings(write_timeout=0.2)
        async with TlsServing(app, contexts, settings, send_buffer=4096) as serving:
            client = await serving.connect(receive_buffer=4096)
            await client.send(get())
            await until(lambda: serving.server.running or serving.server.requests, "the request has begun")
            await until(lambda: not serving.server.connections, "the connection is cut off")
            assert (await client.rest()).endswith(RESET)  # it must not look like an end in order

    run(scenario())


@pytest.mark.parametrize("size", [0, 10, 3 * MB])
def test_a_file_is_sent(run: Run, contexts: Contexts, size: int, tmp_path: Path) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    (tmp_path / "file").write_bytes(content)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.pathsend", "path": str(tmp_path / "file")})

    async def scenario() -> None:
        async with TlsServing(app, contexts) as serving:
            client = await serving.connect()
            for _ in range(2):
                await client.send(get())
                answer = await client.answer()
                assert answer.headers["content-length"] == str(size)
                assert answer.body == content

    run(scenario())


# -- ends --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["close_notify", "end of the stream", "reset"])
def test_a_client_that_ends_its_half_gets_no_answer_and_the_application_is_told(
    run: Run, contexts: Contexts, way: str
) -> None:
    """The event loop ends a TLS connection with the client's close_notify: it has no half of it."""
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        told.append((await receive())["type"])
        await respond(send, b"too late")

    async def scenario() -> None:
        async with TlsServing(app, contexts) as serving:
            client = await serving.connect()
            await client.send(get())
            await until(lambda: serving.server.running, "the request has begun")
            if way == "close_notify":
                await client.notify_close()
            elif way == "reset":
                client.reset()
            else:
                client.shut_down()
            await until(lambda: told == ["http.disconnect"], "the application is told")
            await until(lambda: not serving.server.connections, "the connection is closed")

    run(scenario())


@pytest.mark.parametrize("settings", [HttpSettings(keep_alive_timeout=0.1), HttpSettings(header_timeout=0.1)])
def test_a_silent_client_is_told_of_the_end(run: Run, contexts: Contexts, settings: HttpSettings) -> None:
    async def scenario() -> None:
        async with TlsServing(echo, contexts, settings) as serving:
            client = await serving.connect()
            if settings.keep_alive_timeout < 1:
                await client.send(get())
                assert (await client.answer()).status == 200
            assert await client.rest() == b""

    run(scenario())


def test_a_head_that_takes_too_long_is_408(run: Run, contexts: Contexts) -> None:
    async def scenario() -> None:
        async with TlsServing(echo, contexts, HttpSettings(header_timeout=0.2)) as serving:
            client = await serving.connect()
            await client.send(b"GET / HTTP/1.1\r\nHost:")
            answer = await client.answer()
            assert (answer.status, answer.closes) == (408, True)
            assert await client.rest() == b""

    run(scenario())


@pytest.mark.parametrize("refusal", ["of the engine", "of the application"])
def test_an_early_refusal_reaches_a_client_that_goes_on_sending(run: Run, contexts: Contexts, refusal: str) -> None:
    size = 16 * MB

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"too large", status=413, headers=[(b"connection", b"close")])

    async def scenario() -> None:
        async with TlsServing(app, contexts) as serving:
            client = await serving.connect()
            lines = [f"Content-Length: {size}"] + (["Content-Length: 1"] if refusal == "of the engine" else [])
            await client.send(get("/", *lines, method="POST"))
            for _ in range(size // MB):
                try:
                    await client.send(bytes(MB))
                except OSError:
                    break
            assert (await client.answer()).status == (400 if refusal == "of the engine" else 413)

    run(scenario())


# -- handshakes --------------------------------------------------------------------------------------------------


def test_a_handshake_that_stops_ends_with_its_limit_and_holds_up_no_other(
    run: Run, contexts: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with TlsServing(echo, contexts, HttpSettings(header_timeout=0.5)) as serving:
            silent, half = await serving.begin(), await serving.begin()
            half.say_hello()
            client = await serving.connect()
            await client.send(get())
            assert (await client.answer()).status == 200
            for each in (silent, half):
                assert await asyncio.wait_for(each._loop.sock_recv(each.sock, 100), 10) == b""

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert not caplog.records


@pytest.mark.parametrize("sent", [get(), bytes(100), b"\x16\x03\x01\xff\xff" + bytes(500), b"\x15\x03\x03\0\2\1\0"])
def test_what_is_no_handshake_is_closed_at_once(
    run: Run, contexts: Contexts, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with TlsServing(echo, contexts) as serving:
            client = await serving.begin()
            client.sock.send(sent)
            got = b""
            while data := await asyncio.wait_for(client._loop.sock_recv(client.sock, 1000), 5):
                got += data
            assert b"HTTP" not in got

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert not caplog.records


@pytest.mark.parametrize("progress", ["nothing", "half a record"])
def test_a_client_that_leaves_in_its_handshake_does_no_harm(run: Run, contexts: Contexts, progress: str) -> None:
    async def scenario() -> None:
        async with TlsServing(echo, contexts) as serving:
            client = await serving.begin()
            if progress != "nothing":
                client.say_hello()
            await until(lambda: serving.intake._arriving, "it has been accepted")
            client.reset()
            await until(lambda: not serving.intake._arriving, "it is gone")
            assert not serving.server.connections

    run(scenario())


# -- the extension -----------------------------------------------------------------------------------------------


async def show_tls(scope: Scope, receive: Receive, send: Send) -> None:
    tls = scope["extensions"]["tls"]
    scope["extensions"]["tls"] = tls.pop("server_cert")  # a scope is its request's own
    await respond(send, repr((scope["scheme"], tls)).encode())


def test_the_scope_has_the_version_and_the_suite(run: Run, contexts: Contexts) -> None:
    async def scenario() -> None:
        async with TlsServing(show_tls, contexts) as serving:
            client = await serving.connect()
            for _ in range(2):
                await client.send(get())
                scheme, tls = eval((await client.answer()).body)
                suites = {each["name"]: each["id"] & 0xFFFF for each in contexts.client.get_ciphers()}
                cipher = client.encrypted.cipher()
                assert cipher is not None
                assert scheme == "https"
                assert tls == {
                    "client_cert_chain": [],
                    "client_cert_name": None,
                    "client_cert_error": None,
                    "tls_version": 0x0304,
                    "cipher_suite": suites[cipher[0]],
                }

    run(scenario())


def test_the_scope_has_the_clients_certificate(run: Run, strict_contexts: Contexts) -> None:
    own = Path(strict_contexts.client_certificate).read_text()

    async def scenario() -> None:
        async with TlsServing(show_tls, strict_contexts) as serving:
            client = await serving.connect()
            await client.send(get())
            _, tls = eval((await client.answer()).body)
            (certificate,) = tls["client_cert_chain"]
            assert certificate.split() == own.split()
            assert (tls["client_cert_name"], tls["client_cert_error"]) == ("CN=localhost", None)

    run(scenario())


async def ask(client: TlsClient) -> None:
    await client.shake_hands()
    await client.send(get())
    await client.answer()


def test_a_client_without_the_certificate_that_is_asked_for_is_refused(
    run: Run, strict_contexts: Contexts, contexts: Contexts
) -> None:
    without = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    without.check_hostname, without.verify_mode = False, ssl.CERT_NONE

    async def scenario() -> None:
        async with TlsServing(show_tls, strict_contexts._replace(client=without)) as serving:
            client = await serving.begin()
            with pytest.raises(ssl.SSLError):
                await ask(client)  # with TLS 1.3 the client's part of the handshake is done before
            assert serving.server.requests == 0

    run(scenario())
