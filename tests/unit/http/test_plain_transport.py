"""The plain transport: reads, writes, waits for a slow client, and ends as asyncio's own transports do."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from eggcluster.http.plain_transport import PlainTransport
from tests.waiting import DEADLINE, until

MUCH = b"x" * 4_000_000


class Recorder(asyncio.Protocol):
    """Notes what the transport says. `keeps`: it still writes after the client's end."""

    def __init__(self, *, keeps: bool = False) -> None:
        self.notes: list[object] = []
        self.keeps = keeps

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.notes.append("made")

    def data_received(self, data: bytes) -> None:
        if data == b"raise":
            raise ZeroDivisionError
        self.notes.append(data)

    def eof_received(self) -> bool:
        self.notes.append("eof")
        return self.keeps

    def pause_writing(self) -> None:
        self.notes.append("pause")

    def resume_writing(self) -> None:
        self.notes.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.notes.append(error and type(error))


class Ends:
    """A transport, its protocol, and the client's end."""

    def __init__(self, protocol: Recorder) -> None:
        self.protocol = protocol
        self.client, theirs = socket.socketpair()
        self.client.setblocking(False)
        theirs.setblocking(False)
        self.transport = PlainTransport(asyncio.get_running_loop(), theirs, protocol)

    async def noted(self, *notes: object) -> None:
        """Wait until it has noted just these since the last time."""
        expected = list(notes)
        await until(lambda: len(self.protocol.notes) >= len(expected), f"{expected}")
        assert self.protocol.notes == expected
        self.protocol.notes.clear()

    async def read(self, size: int) -> bytes:
        """So many bytes of the client's, or fewer if those are all."""
        data = bytearray()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            while len(data) < size and (piece := await loop.sock_recv(self.client, 1 << 20)):
                data += piece
        return bytes(data)


@asynccontextmanager
async def ends(*, keeps: bool = False) -> AsyncIterator[Ends]:
    made = Ends(Recorder(keeps=keeps))
    await made.noted("made")
    yield made
    made.client.close()
    made.transport.abort()
    await until(lambda: made.transport.get_extra_info("socket") is None, "its socket is closed")


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(test: Callable[[], Awaitable[None]]) -> None:
        async def work() -> None:
            await test()

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(work())

    return run


Run = Callable[[Callable[[], Awaitable[None]]], None]


def test_it_reads_and_writes(run: Run) -> None:
    async def test() -> None:
        async with ends() as made:
            made.client.send(b"hello")
            await made.noted(b"hello")
            made.transport.write(b"back")
            assert await made.read(4) == b"back"

    run(test)


def test_it_reads_nothing_while_it_is_paused(run: Run) -> None:
    async def test() -> None:
        async with ends() as made:
            made.transport.pause_reading()
            made.transport.pause_reading()
            made.client.send(b"hello")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert made.protocol.notes == []
            made.transport.resume_reading()
            made.transport.resume_reading()
            await made.noted(b"hello")

    run(test)


def test_a_slow_client_pauses_the_writing_and_gets_everything_in_order(run: Run) -> None:
    async def test() -> None:
        async with ends() as made:
            made.transport.write(MUCH)
            made.transport.write(b"end")
            await made.noted("pause")
            assert 0 < made.transport.get_write_buffer_size() < len(MUCH)
            assert await made.read(len(MUCH) + 3) == MUCH + b"end"
            await made.noted("resume")
            assert made.transport.get_write_buffer_size() == 0

    run(test)


def test_with_limits_of_zero_the_writing_goes_on_when_all_is_sent(run: Run) -> None:
    async def test() -> None:
        async with ends() as made:
            made.transport.write(MUCH)
            await made.noted("pause")
            made.transport.set_write_buffer_limits(0)
            assert made.transport.get_write_buffer_limits() == (0, 0)
            await made.read(len(MUCH))
            await made.noted("resume")
            assert made.transport.get_write_buffer_size() == 0

    run(test)


def test_a_close_sends_the_rest_first_and_reads_no_more(run: Run) -> None:
    async def test() -> None:
        async with ends() as made:
            made.transport.write(MUCH)
            await made.noted("pause")
            made.transport.close()
            assert made.transport.is_closing()
            assert not made.transport.is_reading()
            made.transport.write(b"late")
            assert await made.read(len(MUCH) + 1) == MUCH
            await made.noted(None)

    run(test)


def test_an_abort_stops_the_reading_at_once_and_drops_what_is_not_sent(run: Run) -> None:
    async def test() -> None:
        async with ends() as made:
            made.transport.write(MUCH)
            await made.noted("pause")
            made.client.send(b"late")
            made.transport.abort()
            made.transport.abort()
            assert made.protocol.notes == []
            assert made.transport.get_write_buffer_size() == 0
            await made.noted(None)

    run(test)


def test_the_sending_half_is_shut_when_all_is_sent_and_the_other_still_reads(run: Run) -> None:
    async def test() -> None:
        async with ends() as made:
            made.transport.write(MUCH)
            made.transport.write_eof()
            assert await made.read(len(MUCH) + 1) == MUCH
            made.client.send(b"still")
            await made.noted("pause", "resume", b"still")
            with pytest.raises(RuntimeError):
                made.transport.write(b"more")

    run(test)


@pytest.mark.parametrize("keeps", [False, True])
def test_the_clients_end_closes_it_unless_the_protocol_keeps_it(run: Run, keeps: bool) -> None:
    async def test() -> None:
        async with ends(keeps=keeps) as made:
            made.client.shutdown(socket.SHUT_WR)
            if keeps:
                await made.noted("eof")
                made.transport.resume_reading()
                made.transport.write(b"answer")
                made.transport.close()
                assert await made.read(7) == b"answer"
                await made.noted(None)
            else:
                await made.noted("eof", None)

    run(test)


def test_a_client_that_has_gone_is_an_error_for_the_one_that_writes(run: Run) -> None:
    async def test() -> None:
        async with ends() as made:
            made.transport.pause_reading()
            made.client.close()
            made.transport.write(b"x")
            made.transport.write(b"x")
            await made.noted(BrokenPipeError)

    run(test)


def test_a_protocol_that_raises_loses_its_connection_and_is_reported(run: Run) -> None:
    async def test() -> None:
        reported: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        async with ends() as made:
            made.client.send(b"raise")
            await made.noted(ZeroDivisionError)
            assert [type(each) for each in reported] == [ZeroDivisionError]

    run(test)


def test_it_knows_its_socket_and_addresses(run: Run) -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            accepted, _ = server.accept()
            accepted.setblocking(False)
            transport = PlainTransport(asyncio.get_running_loop(), accepted, Recorder())
            assert transport.get_extra_info("socket") is accepted
            assert transport.get_extra_info("peername") == client.getsockname()
            assert transport.get_extra_info("sockname") == server.getsockname()
            assert transport.get_extra_info("ssl_object") is None
            transport.close()
            await until(lambda: transport.get_extra_info("socket", 7) == 7, "its socket is closed")

    run(test)
