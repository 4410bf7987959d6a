"""The HTTP engine behind TLS, and a client that writes and reads its records: it can stop at any of them."""

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from eggcluster.http.connection import HttpConnection
from eggcluster.http.forwarded import TrustedProxies
from eggcluster.http.intake import Intake
from eggcluster.options import ResolvedOptions
from eggcluster.worker.engines.http_engine import tls_context
from tests.cluster.surroundings import key_pair
from tests.unit.http.wire import Client, Serving

T = TypeVar("T")


class Contexts(NamedTuple):
    """The two sides' contexts. `client_key` and `client_certificate` are the files of the client that the server asks
    for."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    client_key: str = ""
    client_certificate: str = ""


def contexts_of(key: str, certificate: str, *, client_ca: str | None = None) -> Contexts:
    options = ResolvedOptions(https_key=key, https_cert=certificate, https_ca=client_ca)
    client = ssl.create_default_context(cafile=certificate)
    client.check_hostname = False
    return Contexts(tls_context(options), client)


@pytest.fixture(name="contexts", scope="session")
def make_contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    """A server with a key of its own, and a client that trusts it."""
    return contexts_of(*key_pair(tmp_path_factory.mktemp("tls"), "server"))


@pytest.fixture(name="strict_contexts")
def make_strict_contexts(tmp_path: Path) -> Contexts:
    """A server that asks for the client's certificate."""
    key, certificate = key_pair(tmp_path, "client")
    contexts = contexts_of(*key_pair(tmp_path, "server"), client_ca=certificate)
    contexts.client.load_cert_chain(certificate, key)
    return contexts._replace(client_key=key, client_certificate=certificate)


class TlsServing(Serving):
    """The engine behind TLS: what it accepts takes the way through the `Intake`, as in a worker."""

    def __init__(
        self, app: Callable[..., Any], contexts: Contexts, *arguments: Any, proxies: str = "", **more: Any
    ) -> None:
        super().__init__(app, *arguments, **more)
        self.contexts = contexts
        self._proxies = TrustedProxies.parse(proxies) if proxies else None

    async def __aenter__(self) -> "TlsServing":
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.defects.append(context))
        self.intake = Intake(
            lambda tls, source: HttpConnection(self.server, is_tls=tls, source=source),
            self.contexts.server,
            self.server.settings.header_timeout,
            self._proxies,
            self.server.log_defect,
        )
        self._door = self._listen()
        self._door.setblocking(False)
        self.address = self._door.getsockname()
        loop.add_reader(self._door, self._accept)
        return self

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._door.accept()
                connection.setblocking(False)
                self.intake.take(connection, tls=True)

    def _stop_listening(self) -> None:
        asyncio.get_running_loop().remove_reader(self._door)
        self._door.close()
        self.intake.close()

    async def connect(self, receive_buffer: int = 0) -> "TlsClient":
        """Return a client whose handshake is done."""
        client = await self.begin(receive_buffer)
        await client.shake_hands()
        return client

    async def begin(self, receive_buffer: int = 0) -> "TlsClient":
        """Return a client that has connected, and said nothing."""
        client = TlsClient(await self.open_socket(receive_buffer), self.server, self.contexts.client)
        self._clients.append(client)
        return client


class TlsClient(Client):
    """`rest` ends with the server's close_notify; a connection that ends without one is an error."""

    def __init__(self, sock: socket.socket, *arguments: Any) -> None:
        super().__init__(sock, arguments[0])
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.encrypted = arguments[1].wrap_bio(self._incoming, self._outgoing)

    async def shake_hands(self) -> None:
        await self._do(self.encrypted.do_handshake)

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            for start in range(0, len(piece), 2**20):
                await self._do(functools.partial(self.encrypted.write, piece[start : start + 2**20]))

    def say_hello(self) -> None:
        """Send the first half of a handshake's first record."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.encrypted.do_handshake()
        hello = self._outgoing.read()
        self.sock.send(hello[: len(hello) // 2])

    async def notify_close(self) -> None:
        """Send close_notify: nothing more will be sent (RFC 8446, 6.1)."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.encrypted.unwrap()
        await self._flush()

    async def _do(self, work: Callable[[], T]) -> T:
        """Do `work` on the records, as soon as enough of them have come."""
        while True:
            try:
                result = work()
            except ssl.SSLWantReadError:
                await self._flush()
                if data := await self._receive():
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self.sock, self._outgoing.read())

    async def _read(self) -> bytes:
        try:
            data: bytes = await self._do(functools.partial(self.encrypted.read, 256 * 1024))
        except ssl.SSLZeroReturnError:
            data = b""
        self._received += data
        return data
