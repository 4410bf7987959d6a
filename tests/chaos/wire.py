"""One connection of a client: as much HTTP/1.1 as the load needs, with each byte that came accounted for."""

import asyncio
import socket
import time
from dataclasses import dataclass, field

from tests.chaos.tally import WrongAnswer

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
        status_line = (await self._line()).split(" ", 2)
        if len(status_line) < 2 or not status_line[1].isdigit():
            raise WrongAnswer(f"no status line: {status_line}")
        answer = Answer(int(status_line[1]), await self._headers())
        self.worker = answer.headers.get("x-worker", self.worker)
        if answer.headers.get("transfer-encoding") == "chunked":
            await self._chunks(answer)
        elif length := int(answer.headers.get("content-length", 0)):
            answer.body.append(await self._exactly(length))
        if answer.status != 200:
            raise WrongAnswer(f"status {answer.status}: {answer.text[:200]}")
        self.requests += 1
        return answer

    def close(self) -> None:
        self.writer.close()

    async def _headers(self) -> dict[str, str]:
        headers = {}
        while line := await self._line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return headers

    async def _chunks(self, answer: Answer) -> None:
        while size := int(await self._line(), 16):
            answer.body.append((await self._exactly(size + 2))[:-2])
        await self._line()

    async def _line(self) -> str:
        line = await self.reader.readuntil(b"\r\n")
        self.received += len(line)
        return line[:-2].decode("latin-1")

    async def _exactly(self, count: int) -> bytes:
        data = await self.reader.readexactly(count)
        self.received += count
        return data
