"""The clients that stay until the server ends the connection: streams without an end, slow closes of WebSockets."""

import asyncio
import os
import time
from itertools import count

from tests.chaos.clients import SERVICE_RESTART, Client, expect
from tests.chaos.tally import WrongAnswer
from tests.chaos.wire import CLOSE, PING, PONG, TEXT, Connection

NORMAL_CLOSURE = 1000
LOOK = 0.3  # seconds between two looks whether the load ends


class Endless(Client):
    """Reads a stream without an end, and leaves at some time if the server does not end it."""

    way: str
    stay = 20.0
    ends_in_order = False  # whether the application ends it when its worker closes

    async def request(self) -> None:
        connection, nonce = await self.connected(), self.nonce()
        path = f"/endless/{self.way}/{connection.port}/{nonce}"
        await connection.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        if not await connection.head():
            self.judge_end()
            return
        leave_at = time.monotonic() + self.dice.uniform(1, self.stay)
        for number in count():
            line = await connection.chunk()
            if line is None:
                self.judge_end()
                break
            expect(f"{nonce} {number}\n", line.decode())
            if self.stopping or time.monotonic() > leave_at:
                self.leave(nonce, connection)
                break

    def judge_end(self) -> None:
        if not self.ends_in_order:
            raise WrongAnswer("a stream that was cut looks complete")
        self.tally.note("streams that ended because their worker closes")

    def leave(self, nonce: str, connection: Connection) -> None:
        self.hang_up()
        self.tally.note("streams that their clients left")


class Watching(Endless):
    """The application looks at `app.closing`."""

    name, way, ends_in_order = "endless-watching", "watching", True


class Listening(Endless):
    """The application waits for `http.disconnect`: it must hear of each client that leaves."""

    name, way = "endless-listening", "listening"

    def leave(self, nonce: str, connection: Connection) -> None:
        super().leave(nonce, connection)
        self.tally.left.append((nonce, int(connection.worker), time.monotonic()))


class Deaf(Endless):
    """The application looks at nothing: its streams are cut at the end of the drain, and not before."""

    name, way = "endless-deaf", "deaf"


class SlowCloser(Client):
    """An idle WebSocket whose client takes its time to answer the server's close frame."""

    name = "ws-slow"
    stay = 30.0

    async def request(self) -> None:
        connection, nonce = await self.connected(), self.nonce()
        await connection.upgrade()
        await connection.send_frame(TEXT, nonce.encode())
        expect((TEXT, nonce.encode()), await connection.frame())
        code = await self.close_code(connection)
        if code != NORMAL_CLOSURE:  # that would be this client's own wish
            expect(SERVICE_RESTART, code)
            self.tally.note(f"{self.name}: told of the restart")
            await self.after_close(connection)
        self.hang_up()

    async def close_code(self, connection: Connection) -> int:
        """Wait for the server's close frame; ask for it after some time."""
        leave_at = time.monotonic() + self.dice.uniform(5, self.stay)
        asked = False
        while True:
            frame = asyncio.ensure_future(connection.frame())
            while not frame.done():
                await asyncio.wait([frame], timeout=LOOK)
                if not frame.done() and not asked and (self.stopping or time.monotonic() > leave_at):
                    await connection.send_frame(CLOSE, NORMAL_CLOSURE.to_bytes(2, "big"))
                    asked = True
            opcode, payload = frame.result()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")
            expect(PING, opcode)
            await connection.send_frame(PONG, payload)

    async def after_close(self, connection: Connection) -> None:
        """Answer late: by then the server may have cut the connection, but it says nothing a second time."""
        await asyncio.sleep(self.dice.uniform(0.3, 3))
        try:
            await connection.send_frame(CLOSE, SERVICE_RESTART.to_bytes(2, "big"))
        except OSError:
            return
        await expect_end(connection)


class MuteCloser(SlowCloser):
    """Never answers the close frame: the server has to end the connection all the same."""

    name = "ws-mute"

    async def after_close(self, connection: Connection) -> None:
        await expect_end(connection)


async def expect_end(connection: Connection) -> None:
    """Wait until the connection has ended; WrongAnswer if anything comes before."""
    try:
        frame = await connection.frame()
    except TimeoutError:
        raise
    except (OSError, EOFError):
        return
    raise WrongAnswer(f"a frame after the close frame: {frame}")


class Sharing(Client):
    """Counts in the shared dictionary: what was acknowledged stays, whatever becomes of the agent."""

    name = "shared"
    longest = 60.0  # seconds for which writes may be refused: the agent is killed again and again, and waits in between

    known, unsure = 0, 0  # acknowledged; writes that may or may not have been done
    key = ""
    refused_since: float | None = None

    async def request(self) -> None:
        self.key = self.key or f"{os.getpid()}:{self.nonce()}"
        connection = await self.connected()
        self.unsure += 1
        await connection.send(f"GET /count/{self.key} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        text = (await connection.answer()).text
        if text.isdigit():
            self.judge(int(text))
        else:
            self.judge_refusal(text)

    def judge(self, number: int) -> None:
        least, most = self.known + 1, self.known + self.unsure
        self.known, self.unsure = number, max(0, most - number)
        self.refused_since = None
        if not least <= number <= most:
            raise WrongAnswer(f"the count is {number}; between {least} and {most} would be right")

    def judge_refusal(self, text: str) -> None:
        self.tally.note(f"shared: {text}")
        self.refused_since = self.refused_since or time.monotonic()
        if time.monotonic() - self.refused_since > self.longest:
            raise WrongAnswer(f"no write for {self.longest:g} s: {text}")


LASTING: dict[str, type[Client]] = {
    kind.name: kind for kind in (Watching, Listening, Deaf, SlowCloser, MuteCloser, Sharing)
}
