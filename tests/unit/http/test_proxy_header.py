"""Connections that begin with a PROXY header: whose addresses count, and what is refused."""

import asyncio
import contextlib
import ssl

import pytest

from eggcluster.options import ResolvedOptions
from tests.unit.conftest import Run
from tests.unit.test_http_engine import REQUEST, Client, Standing

V1 = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 80\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes((203, 0, 113, 9, 198, 51, 100, 1)) + b"\x12\x67\x00\x50"  # 4711, 80
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
OPTIONS = ResolvedOptions(proxy_protocol=True, header_timeout=0.5)


async def connect(standing: Standing, *, tls: bool = False) -> Client:
    reader, writer = await asyncio.open_connection(*standing.listener.getsockname())
    await standing.accept(tls=tls)
    return Client(reader, writer)


@pytest.mark.parametrize("header", [V1, V2], ids=["version 1", "version 2"])
def test_the_client_is_the_one_that_the_header_names(run: Run, header: bytes) -> None:
    async def work() -> None:
        async with Standing(OPTIONS) as standing:
            client = await connect(standing)
            client.writer.write(header[:7])
            await client.writer.drain()
            await asyncio.sleep(0)
            client.writer.write(header[7:])
            for _ in range(2):
                assert (await client.get())[1] == b"http 4711"

    run(work())


def test_header_and_request_may_come_together(run: Run) -> None:
    async def work() -> None:
        async with Standing(OPTIONS) as standing:
            client = await connect(standing)
            client.writer.write(V1 + REQUEST)
            assert (await client.reader.readuntil(b"http 4711")).startswith(b"HTTP/1.1 200")

    run(work())


def test_a_proxy_that_speaks_for_itself_is_the_client(run: Run) -> None:
    async def work() -> None:
        async with Standing(OPTIONS) as standing:
            client = await connect(standing)
            client.writer.write(LOCAL)
            assert (await client.get())[1] == b"http %d" % client.port

    run(work())


@pytest.mark.parametrize("sent", [REQUEST, b"PROXY TCP4 nonsense\r\n", b"PROXY "], ids=["none", "wrong", "cut off"])
def test_a_proxy_without_a_valid_header_is_closed(run: Run, sent: bytes) -> None:
    async def work() -> None:
        async with Standing(OPTIONS) as standing:
            client = await connect(standing)
            client.writer.write(sent)
            with contextlib.suppress(ConnectionResetError):  # what it sent had not been read
                assert await client.reader.read() == b""
            assert standing.engine.load.requests == 0

    run(work())


def test_other_peers_send_no_header(run: Run) -> None:
    async def work() -> None:
        async with Standing(ResolvedOptions(proxy_protocol=True, forwarded_allow_ips="10.0.0.0/8")) as standing:
            client = await connect(standing)
            assert (await client.get())[1] == b"http %d" % client.port
            liar = await connect(standing)
            liar.writer.write(V1 + REQUEST)
            assert (await liar.reader.read()).startswith(b"HTTP/1.1 400")

    run(work())


def test_tls_begins_after_the_header(run: Run, tls: tuple[ResolvedOptions, ssl.SSLContext]) -> None:
    async def work() -> None:
        files, context = tls
        options = ResolvedOptions(https_key=files.https_key, https_cert=files.https_cert, proxy_protocol=True)
        async with Standing(options) as standing:
            client = await connect(standing, tls=True)
            client.writer.write(V2)
            await client.writer.drain()
            await client.writer.start_tls(context)
            assert (await client.get())[1] == b"https 4711"

    run(work())
