"""The clients of the load: five ways of using a server, each with answers that can be verified."""

import asyncio
import hashlib
import random
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from tests.chaos.tally import Failure, Tally, WrongAnswer, outcome_of
from tests.chaos.wire import Connection

SERVICE_RESTART = 1012  # RFC 6455, the registry of close codes


class Client(ABC):
    """Sends one request after the other, until it is told to stop, with pauses of `pause` seconds on average.

    A pause comes before the first one too: clients that all begin at once would march in step.
    """

    name: str
    prompt = False  # whether its answers come at once, so that their time says something
    patience = 40.0  # seconds that an answer may take
    stay = 0.0  # seconds more for which the client stays on its own account

    def __init__(self, port: int, tally: Tally, dice: random.Random, pause: float) -> None:
        self.port, self.tally, self.dice, self.pause = port, tally, dice, pause
        self.stopping = False
        self.connection: Connection | None = None

    async def run(self) -> None:
        while not self.stopping:
            await asyncio.sleep(self.dice.uniform(0, 2 * self.pause))
            await self.attempt()
        self.hang_up()

    async def attempt(self) -> None:
        """One request, counted whatever becomes of it."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.patience):
                await self.request()
        except (OSError, EOFError, WrongAnswer) as error:  # TimeoutError is an OSError, IncompleteReadError an EOFError
            self.tally.failed(self.failure(error, began))
            self.hang_up()
        else:
            self.tally.ok(self.name, began, prompt=self.prompt)

    @abstractmethod
    async def request(self) -> None:
        """Send one request, verify the answer. OSError, EOFError or WrongAnswer where it fails."""

    def failure(self, error: BaseException, began: float) -> Failure:
        there = self.connection
        return Failure(
            outcome=outcome_of(error),
            client=self.name,
            began=began,
            failed=time.monotonic(),
            opened=there.opened if there else began,
            port=there.port if there else 0,
            worker=there.worker if there else "",
            requests=there.requests if there else 0,
            received=there.received if there else 0,
            detail=f"{type(error).__name__}: {error}"[:300],
        )

    def hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    async def connected(self) -> Connection:
        """A connection of its own."""
        self.hang_up()
        self.connection = await Connection.open(self.port)
        return self.connection

    def nonce(self) -> str:
        return f"{self.dice.getrandbits(64):016x}"


class OneShot(Client):
    """A connection for each request."""

    name = "one-shot"
    prompt = True

    async def request(self) -> None:
        connection, nonce = await self.connected(), self.nonce()
        await connection.send(f"GET /echo/{nonce} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        expect(nonce, (await connection.answer()).text)


class KeepAlive(Client):
    """One connection for as long as the server lets it."""

    name = "keep-alive"
    prompt = True

    async def request(self) -> None:
        connection, nonce = self.connection, self.nonce()
        if connection is None or connection.is_over:
            connection = await self.connected()
        await connection.send(f"GET /echo/{nonce} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = await connection.answer()
        expect(nonce, answer.text)
        if answer.headers.get("connection") == "close":
            self.tally.note("keep-alive connections that were told to close")
            self.hang_up()


class Stream(Client):
    """A response in numbered pieces, a second or two long: shorter than a worker may take to close."""

    name = "stream"

    async def request(self) -> None:
        connection, nonce = await self.connected(), self.nonce()
        count, pause = self.dice.randint(5, 30), self.dice.randint(10, 60)
        path = f"/stream/{count}/{pause}/{nonce}"
        await connection.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await connection.answer()
        expect([f"{nonce} {number}\n" for number in range(count)], answer.text.splitlines(keepends=True))


class Upload(Client):
    """A request's body in pieces, with pauses; its checksum comes back."""

    name = "upload"

    async def request(self) -> None:
        connection, nonce = await self.connected(), self.nonce()
        pieces = [self.dice.randbytes(self.dice.randint(1, 2**16)) for _ in range(self.dice.randint(1, 5))]
        length = sum(map(len, pieces))
        head = f"POST /upload/{nonce} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        await connection.send(head.encode())
        for piece in pieces:
            await connection.send(piece)
            await asyncio.sleep(self.dice.uniform(0, 0.1))
        digest = hashlib.sha256(b"".join(pieces)).hexdigest()
        expect(f"{nonce} {length} {digest}", (await connection.answer()).text)


class WebSocket(Client):
    """A conversation of some seconds. Being told that the service restarts (1012) ends it in order."""

    name = "websocket"

    def __init__(self, port: int, tally: Tally, dice: random.Random, pause: float) -> None:
        super().__init__(port, tally, dice, pause)
        self.line = _Line(0, 0.0)

    async def request(self) -> None:
        async with self.conversation() as websocket:
            for _ in range(self.dice.randint(1, 40)):
                nonce = self.nonce()
                await websocket.send(nonce)
                expect(nonce, await websocket.recv())
                self.line.messages += 1
                await asyncio.sleep(self.dice.uniform(0, 0.2))
                if self.stopping:
                    break

    @asynccontextmanager
    async def conversation(self) -> AsyncIterator[ClientConnection]:
        self.line = _Line(0, time.monotonic())
        sock = socket.socket()
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
            self.line.port = sock.getsockname()[1]
            uri = f"ws://127.0.0.1:{self.port}/"
            plain = connect(uri, sock=sock, open_timeout=None, ping_interval=None, compression=None, proxy=None)
            async with plain as websocket:
                yield websocket
        except InvalidStatus as error:
            raise WrongAnswer(f"status {error.response.status_code} for an upgrade") from None
        except InvalidHandshake as error:
            raise ConnectionResetError(f"no answer to an upgrade: {error}") from None
        except ConnectionClosed as closed:
            self.judge(closed)
        finally:
            sock.close()

    def judge(self, closed: ConnectionClosed) -> None:
        if closed.rcvd is None:
            raise ConnectionResetError(f"closed without a word: {closed}") from None
        if closed.rcvd.code != SERVICE_RESTART:
            raise WrongAnswer(f"closed with {closed.rcvd.code}") from None
        self.tally.note("WebSockets that were told of the restart")

    def failure(self, error: BaseException, began: float) -> Failure:
        plain = super().failure(error, began)
        line = self.line
        return Failure(**{**vars(plain), "port": line.port, "opened": line.opened, "requests": line.messages})


class _Line:
    """What is known of a WebSocket's connection, also when it did not come to be one."""

    def __init__(self, port: int, opened: float) -> None:
        self.port, self.opened, self.messages = port, opened, 0


KINDS: dict[str, type[Client]] = {kind.name: kind for kind in (OneShot, KeepAlive, Stream, Upload, WebSocket)}


def expect(wanted: object, came: object) -> None:
    if wanted != came:
        raise WrongAnswer(f"{str(came)[:100]!r} instead of {str(wanted)[:100]!r}")
