"""One connection of a client: as much HTTP/1.1 as the load needs, with each byte that came accounted for."""

import asyncio
import base64
import os
import socket
import time
from dataclasses import dataclass, field

from tests.chaos.tally import WrongAnswer

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10  # RFC 6455, 5.2
LINE_LIMIT = 2**20


@dataclass
class Answer:
    """A complete response, its body as it came: one entry, or one for each chunk."""

    status: int
    headers: dict[str, str]
    body: list[bytes] = field(default_factory=list)

    @property
    def text(self) -> str:
        return b"".join(self.body).decode()


class Connection:
    """A TCP connection that knows its own port, which worker answered on it, and how far the last answer got."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opened: float) -> None:
        self.reader, self.writer = reader, writer
        self.opened = opened
        self.port: int = writer.get_extra_info("sockname")[1]
        self.worker = ""
        self.requests = 0
        self.received = 0

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect; OSError if that fails."""
        opened = time.monotonic()  # before: the server may have it, and be gone, before this process runs again
        streams = await asyncio.open_connection("127.0.0.1", port, limit=LINE_LIMIT, family=socket.AF_INET)
        return cls(*streams, opened)

    @property
    def is_over(self) -> bool:
        """Whether the server has closed it: known here without having sent anything."""
        return self.reader.at_eof() or self.reader.exception() is not None

    async def send(self, data: bytes) -> None:
        self.received = 0
        if self.writer.is_closing():  # uvloop raises RuntimeError where asyncio would not mind
            raise ConnectionResetError("closed while it was being sent to")
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        """Read one response to its end. IncompleteReadError or OSError if it breaks, WrongAnswer if it is none."""
        answer = await self._start()
        if answer.headers.get("transfer-encoding") == "chunked":
            await self._chunks(answer)
        elif length := int(answer.headers.get("content-length", 0)):
            answer.body.append(await self._exactly(length))
        expect_status(200, answer)
        self.requests += 1
        return answer

    async def head(self) -> bool:
        """Read the head of a response whose chunks are read one by one. Return False if it has none: it is empty, and
        the server knew that when it sent the head. Errors as of `answer`."""
        answer = await self._start()
        expect_status(200, answer)
        return answer.headers.get("content-length") != "0"

    async def chunk(self) -> bytes | None:
        """Read one chunk; None at the end of the response. Errors as of `answer`."""
        size = int(await self._line(), 16)
        data = (await self._exactly(size + 2))[:-2]
        return data if size else None

    async def upgrade(self) -> None:
        """Become a WebSocket. Errors as of `answer`."""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ["GET / HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        await self.send("\r\n".join([*lines, f"Sec-WebSocket-Key: {key}", "", ""]).encode())
        expect_status(101, await self._start())

    async def send_frame(self, opcode: int, payload: bytes) -> None:
        """Send a short frame, masked with zeros: the payload stays as it is."""
        await self.send(bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    async def frame(self) -> tuple[int, bytes]:
        """Read a short frame; return its opcode and its payload. Errors as of `answer`."""
        first, length = await self._exactly(2)
        if length > 125:
            raise WrongAnswer(f"a frame with the length {length}")
        return first & 0x0F, await self._exactly(length)

    def close(self) -> None:
        self.writer.close()

    async def _start(self) -> Answer:
        """Read the status line and the headers."""
        status_line = (await self._line()).split(" ", 2)
        if len(status_line) < 2 or not status_line[1].isdigit():
            raise WrongAnswer(f"no status line: {status_line}")
        answer = Answer(int(status_line[1]), await self._headers())
        self.worker = answer.headers.get("x-worker", self.worker)
        return answer

    async def _headers(self) -> dict[str, str]:
        headers = {}
        while line := await self._line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return headers

    async def _chunks(self, answer: Answer) -> None:
        while (data := await self.chunk()) is not None:
            answer.body.append(data)

    async def _line(self) -> str:
        line = await self.reader.readuntil(b"\r\n")
        self.received += len(line)
        return line[:-2].decode("latin-1")

    async def _exactly(self, count: int) -> bytes:
        data = await self.reader.readexactly(count)
        self.received += count
        return data


def expect_status(wanted: int, answer: Answer) -> None:
    if answer.status != wanted:
        raise WrongAnswer(f"status {answer.status}: {answer.text[:200]}")
