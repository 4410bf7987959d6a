"""The HTTP engine in a loop of its own: connections that were accepted elsewhere, and what it says of its load."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from eggcluster.http.connection import HttpConnection
from eggcluster.http.http_settings import HttpSettings
from eggcluster.http.server import HttpServer
from eggcluster.http.transport_addresses import local_address, remote_address
from eggcluster.ipc.worker_spec import ListenerSpec
from eggcluster.options import ResolvedOptions
from eggcluster.worker.engines.http_engine import HttpEngine, http_settings
from tests.unit.conftest import Run
from tests.unit.serving import run_server  # noqa: F401

REQUEST = b"GET / HTTP/1.1\r\nhost: cluster\r\n\r\n"
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def scheme(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answers with the scheme and the client's port."""
    text = f"{scope['scheme']} {scope['client'][1]}".encode()
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class Standing:
    """A started engine that serves what the test accepts in its place."""

    def __init__(
        self,
        options: ResolvedOptions | None = None,
        app: Callable[..., Any] = scheme,
        interface: Literal["asgi", "wsgi"] = "asgi",
    ) -> None:
        options = options or ResolvedOptions()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        own = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.tls_address, self.address = own[0].getsockname(), own[1].getsockname()
        listeners = [ListenerSpec(sock.detach(), tls) for sock, tls in zip(own, (True, False), strict=True)]
        self.engine = HttpEngine(
            app,
            interface,
            options,
            listeners if options.https_key else listeners[1:],
            {},
            self._before_accept,
            self.is_final,
        )

    def is_final(self) -> bool:
        return False

    async def _before_accept(self, server: object) -> None: ...

    @property
    def server(self) -> HttpServer:
        assert self.engine._serving is not None
        return self.engine._serving[0]

    async def accept(self, *, tls: bool = False) -> None:
        connection, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        passed_on = socket.socket(fileno=connection.detach())  # as it comes out of a message
        passed_on.setblocking(False)
        self.engine.take(passed_on, tls=tls)

    async def connect(self, context: ssl.SSLContext | None = None) -> "Client":
        opening = asyncio.open_connection(*self.listener.getsockname(), ssl=context)
        (reader, writer), _ = await asyncio.gather(opening, self.accept(tls=context is not None))
        return Client(reader, writer)

    async def __aenter__(self) -> "Standing":
        await self.engine.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.engine.drain(0.1)
        self.listener.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.port = writer.get_extra_info("sockname")[1]

    async def get(self) -> tuple[bytes, bytes]:
        """Head and body of the answer."""
        self.writer.write(REQUEST)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head, await self.reader.readexactly(length)


# -- its settings -----------------------------------------------------------------------------------------------


def test_every_setting_that_is_an_option_is_taken_from_it() -> None:
    common = {field.name for field in fields(HttpSettings)} & {field.name for field in fields(ResolvedOptions)}
    assert {"write_timeout", "ws_max_size", "ws_ping_interval", "ws_ping_timeout"} <= common
    others: dict[str, Any] = dict.fromkeys(common - {"root_path", "headers", "server_header"}, 77)
    options = ResolvedOptions(**others, root_path="/77", headers=("a:77",), server_header=False)
    settings = http_settings(options)
    assert {name: getattr(settings, name) for name in common} == others | {
        "root_path": "/77",
        "headers": ((b"a", b"77"),),
        "server_header": False,
    }


# -- taking connections ------------------------------------------------------------------------------------------


def test_a_connection_that_was_accepted_elsewhere_is_served(run: Run) -> None:
    async def work() -> None:
        async with Standing() as standing:
            client = await standing.connect()
            for _ in range(3):  # it is kept alive as any other
                head, body = await client.get()
                assert head.startswith(b"HTTP/1.1 200")
                assert body == b"http %d" % client.port

    run(work())


def test_small_answers_are_held_back_no_more_than_on_a_connection_of_its_own(run: Run) -> None:
    async def work() -> None:
        nodelay: list[int] = []

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            (protocol,) = cast(set[HttpConnection], standing.server.connections)
            sock = protocol.transport.get_extra_info("socket")
            nodelay.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            await scheme(scope, receive, send)

        async with Standing(app=app) as standing:
            taken = await standing.connect()
            await taken.get()
            taken.writer.close()
            while standing.engine.load.connections:
                await asyncio.sleep(0)
            own = Client(*await asyncio.open_connection(*standing.address))
            await own.get()
        assert nodelay[0] == nodelay[1]

    run(work())


def test_a_connection_with_tls_is_served_by_the_server_with_tls(
    run: Run, tls: tuple[ResolvedOptions, ssl.SSLContext]
) -> None:
    async def work() -> None:
        options, context = tls
        async with Standing(options) as standing:
            secure, plain = await standing.connect(context), await standing.connect()
            assert (await secure.get())[1] == b"https %d" % secure.port
            assert (await plain.get())[1] == b"http %d" % plain.port

    run(work())


def test_a_handshake_that_fails_closes_the_connection_and_says_nothing(
    run: Run, tls: tuple[ResolvedOptions, ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with Standing(tls[0]) as standing:
            reader, writer = await asyncio.open_connection(*standing.listener.getsockname())
            await standing.accept(tls=True)
            writer.write(REQUEST)
            assert not (await reader.read()).startswith(b"HTTP")
            writer.close()
            assert (await (await standing.connect(tls[1])).get())[1].startswith(b"https")

    with caplog.at_level(logging.WARNING):
        run(work())
    assert not caplog.records


def test_a_client_that_has_gone_before_it_was_taken_does_no_harm(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with Standing() as standing:
            gone = socket.create_connection(standing.listener.getsockname())
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # on, 0 s: a reset
            gone.close()
            await standing.accept()
            assert (await (await standing.connect()).get())[1].startswith(b"http")

    with caplog.at_level(logging.WARNING):
        run(work())
    assert not caplog.records


def test_after_the_drain_a_connection_is_closed(run: Run) -> None:
    async def work() -> None:
        async with Standing() as standing:
            await standing.engine.drain(1)
            client = await standing.connect()
            assert await client.reader.read() == b""

    run(work())


# -- the load ----------------------------------------------------------------------------------------------------


def test_the_load_counts_requests_and_open_connections(run: Run) -> None:
    async def work() -> None:
        async with Standing() as standing:
            assert standing.engine.load[:2] == (0, 0)
            first, second = await standing.connect(), await standing.connect()
            await first.get()
            await first.get()
            await second.get()
            assert standing.engine.load[:2] == (3, 2)
            assert standing.engine.load.accepted == 2
            first.writer.close()
            while standing.engine.load.connections != 1:
                await asyncio.sleep(0)

    run(work())


# -- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_addresses_are_those_of_the_socket(run: Run, family: socket.AddressFamily, tmp_path: Path) -> None:
    found: list[object] = []
    expected: list[object] = []

    class Asking(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport = cast(asyncio.Transport, transport)
            found.extend([local_address(transport), remote_address(transport)])

    async def work() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(family) as sock:
            where = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}.get(family, str(tmp_path / "s"))
            sock.bind(where)
            server = await loop.create_server(Asking, sock=sock)
            with socket.socket(family) as client:
                client.setblocking(False)
                await loop.sock_connect(client, sock.getsockname())
                while not found:
                    await asyncio.sleep(0)
                name, own = sock.getsockname(), client.getsockname()
                expected.extend([(name, None), None] if family == socket.AF_UNIX else [name[:2], own[:2]])
            server.close()
        assert found == expected

    run(work())
