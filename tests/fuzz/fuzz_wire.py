"""The fuzz of the wire: `python -m tests.fuzz.fuzz_wire [seconds] [seed]`, from the repository's root.

The same stream of bytes goes through connections of both interfaces and with both parsers, cut in other pieces each
time, to a client that takes the responses at another pace. The applications have to see each valid request once, in
order and unchanged, and all have to see the same of the rest. Nothing may be logged, and each connection has to end.
"""

import asyncio
import gc
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest

from eggcluster.http import h11_parser, parsers, reader
from eggcluster.http.connection import HttpConnection
from eggcluster.http.head import Limits
from eggcluster.http.http_settings import HttpSettings
from eggcluster.http.server import HttpServer
from eggcluster.http.websocket import asgi_exchange, load_handshake
from tests.fuzz.memory_transport import MemoryTransport
from tests.fuzz.recording_apps import CountedExchange, Record, as_wsgi, threads
from tests.fuzz.request_streams import Sent, Stream, cut, make_stream
from tests.fuzz.response_reader import responses_in
from tests.fuzz.wire_decisions import Outcome, Response, decided
from tests.unit.clock import JumpingLoop

SETTINGS = HttpSettings(limits=Limits(4000, 40, 2000, 200_000), threads=1)
PAUSES = 5.0  # seconds in all that a client pauses; a head has to be complete after 10
LIMIT = 150.0  # seconds on the connection's clock from the client's last byte to the end; the longest timeout is 60


class Variant(NamedTuple):
    interface: str
    parser: str


ASGI, ASGI_H11 = Variant("asgi", "llhttp"), Variant("asgi", "h11")
VARIANTS = (ASGI, ASGI, ASGI_H11, ASGI_H11, Variant("wsgi", "llhttp"), Variant("wsgi", "h11"))


# -- one connection ----------------------------------------------------------------------------------------------


@contextmanager
def parser_in_use(name: str) -> Iterator[None]:
    """Have new connections read with llhttp or h11."""
    module: Any = h11_parser if name == "h11" else parsers
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(reader, "new_parser", getattr(module, "H11Parser", parsers.new_parser))
        for error in ("SwitchProtocols", "CallbackFailed", "BadRequest"):
            patches.setattr(reader, error, getattr(module, error))
        yield


class Client:
    """Sends pieces over a transport of its own to a server of its own."""

    def __init__(self, variant: Variant, rolls: random.Random) -> None:
        self.record = Record()
        self._rolls = rolls
        self._pauses_left = PAUSES
        app: Callable[..., Any] = self.record.asgi if variant.interface == "asgi" else self.record.wsgi
        new_exchange = asgi_exchange if variant.interface == "asgi" else CountedExchange
        self._server = HttpServer(app, new_exchange, SETTINGS, {})
        connection = HttpConnection(self._server, is_tls=False)
        self.transport = MemoryTransport(connection, rolls if rolls.random() < 0.5 else None)

    async def send(self, pieces: list[bytes], end: str) -> None:
        """Send the pieces, then `end`: the client shuts its half, is silent, or is gone. Wait for the server's end."""
        for piece in pieces:
            await self._pause()
            if not self.transport.is_closing():
                self.transport.protocol.data_received(piece)
        await self._pause()
        if end == "shut":
            self.transport.shut_down()
        elif end == "gone":
            self.transport.lose(ConnectionResetError())
        await self._await_end()
        self._server.close()

    async def _pause(self) -> None:
        """Let the server do something; wait while it does not read."""
        for _ in range(self._rolls.choice((0, 0, 1, 3))):
            await asyncio.sleep(0)
        if self._rolls.random() < 0.02:
            pause = min(self._rolls.random() / 2, self._pauses_left)
            self._pauses_left -= pause
            await asyncio.sleep(pause)
        began = asyncio.get_running_loop().time()
        while self.transport.is_reading_paused and not self.transport.is_closing():
            await asyncio.sleep(0.05)
            assert asyncio.get_running_loop().time() < began + LIMIT, "reading stays paused"

    async def _await_end(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + LIMIT
        while not self.transport.is_lost or self._server.is_busy:
            assert loop.time() < end, f"no end: {self._describe()}"
            await asyncio.sleep(0.1)
        assert self.transport.misuse == []

    def _describe(self) -> str:
        fields = ("state", "deadline", "exchange", "_reading", "_waiting", "_rejection", "_reading_paused")
        facts = {name: getattr(self.transport.protocol, name, None) for name in fields}
        return f"{facts}, running: {self._server.running}, transport: {vars(self.transport)}"


async def serve(stream: Stream, variant: Variant, end: str, rolls: random.Random) -> tuple[Outcome, list[bytes]]:
    """Send the stream, cut somewhere; return what came of it, and the pieces."""
    pieces = cut(stream.data, rolls)
    with parser_in_use(variant.parser):
        client = Client(variant, rolls)
        await client.send(pieces, end)
    record = client.record
    responses = () if end == "gone" else tuple(responses_in(client.transport.written))
    return Outcome(tuple(record.requests), record.messages, responses), pieces


# -- what is demanded --------------------------------------------------------------------------------------------


def check(stream: Stream, variant: Variant, end: str, outcome: Outcome) -> None:
    """The valid requests are seen and answered, each once."""
    expected = tuple(map(as_wsgi, stream.requests)) if variant.interface == "wsgi" else stream.requests
    expected = tuple(each._replace(body=b"") if each.target.startswith(b"/early") else each for each in expected)
    count = len(expected)
    if end == "gone":
        assert outcome.requests[:count] == expected[: len(outcome.requests)]
        return
    assert outcome.requests[:count] == expected
    assert not stream.is_complete or len(outcome.requests) == count
    answers = [_answer_to(sent) for sent in expected]
    assert list(outcome.responses[:count]) == answers
    assert [status for status, _ in outcome.responses].count(200) == len(outcome.requests)
    if stream.websocket is not None and variant.interface == "asgi":
        assert outcome.messages == list(stream.websocket)


def _answer_to(sent: Sent) -> Response:
    body = b"%b %b %d" % (sent.method, sent.target, len(sent.body))
    return 200, b"" if sent.method == b"HEAD" else body


async def run_one(stream: Stream, rolls: random.Random, report: list[Any]) -> None:
    """Serve the stream in all variants; AssertionError for what is not as demanded."""
    end = rolls.choice(("shut", "shut", "silent", "gone"))
    if stream.websocket is not None:  # a client that shuts its half ends the WebSocket, at whatever point that is
        end = "silent"
    first: dict[str, tuple[Outcome, Any]] = {}
    for variant in VARIANTS:
        report[:] = [stream, end, variant]
        outcome, pieces = await serve(stream, variant, end, rolls)
        report[:] = [stream, end, variant, pieces if len(pieces) < 30 else len(pieces), outcome]
        check(stream, variant, end, outcome)
        before, its_pieces = first.setdefault(variant.interface, (outcome, pieces))
        report += [before, its_pieces if len(its_pieces) < 30 else len(its_pieces)]
        assert end == "gone" or before == outcome or decided(before, outcome, same_parser=variant.parser == "llhttp")


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


async def run_for(seconds: float, seed: int, count: int = 0) -> int:
    """Streams for that long, or that many; return how many there were."""
    loop = asyncio.get_running_loop()
    load_handshake()
    gc.collect()  # tasks of other tests that nothing refers to are reported now, not as this run's
    collector = _Collector()
    logging.getLogger().addHandler(collector)
    loop.set_exception_handler(lambda _, context: collector.lines.append(str(context)))
    number, end = 0, time.monotonic() + seconds
    try:
        while number < count or (not count and time.monotonic() < end):
            report: list[Any] = []
            try:
                await run_one(*_make(seed + number), report)
                assert collector.lines == []
            except BaseException:
                lines = [f"{each!r:.30000}" for each in report]
                print(f"seed {seed + number}:", *lines, sep="\n  ", file=sys.stderr)  # noqa: T201
                raise
            number += 1
    finally:
        logging.getLogger().removeHandler(collector)
    return number


def _make(seed: int) -> tuple[Stream, random.Random]:
    rolls = random.Random(seed)
    return make_stream(rolls), rolls


def fuzz(seconds: float, seed: int, count: int = 0) -> int:
    """Run the fuzz in a loop of its own, whose clock jumps."""
    with asyncio.Runner(loop_factory=partial(JumpingLoop, threads.are_busy)) as runner:
        return runner.run(run_for(seconds, seed, count))


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    print(f"{fuzz(seconds, seed)} streams from seed {seed} on")  # noqa: T201


if __name__ == "__main__":
    main()
