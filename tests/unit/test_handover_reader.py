"""A worker's side of the handover: it receives while it has file descriptors, and loses nothing while it has none."""

import asyncio
import contextlib
import gc
import os
import resource
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from eggcluster.kernel.connection_handover import Handover
from eggcluster.worker.app.handover_reader import HandoverReader
from eggcluster.worker.engines.engine import Engine
from tests.waiting import DEADLINE

COUNT = 5


class Taken:
    """As much of an engine as the reader knows."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []

    def take(self, connection: socket.socket, *, tls: bool) -> None:
        assert not tls
        self.connections.append(connection)

    def make_room(self, least: int) -> int:
        return 0


@contextlib.contextmanager
def handed_over() -> Iterator[tuple[Handover, list[socket.socket]]]:
    """Some connections on their way to a worker, and their clients."""
    handover, clients = Handover(), []
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(COUNT):
            clients.append(socket.create_connection(server.getsockname()))
            accepted, _ = server.accept()
            with accepted:
                assert handover.send(accepted, tls=False)
    try:
        yield handover, clients
    finally:
        handover.close()
        for client in clients:
            client.close()


@contextlib.contextmanager
def few_descriptors(left: int) -> Iterator[None]:
    """For a while no more than so many can be opened."""
    gc.collect()  # what earlier tests have left is closed now, and not while the limit holds
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(fd) for fd in os.listdir("/dev/fd")) + 10, hard))
    fillers: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        for _ in range(left):
            os.close(fillers.pop())
        yield
    finally:
        for fd in fillers:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def reader(handover: Handover, taken: Taken) -> HandoverReader:
    return HandoverReader(os.dup(handover.worker_fd), cast(Engine, taken))


def close_all(reading: HandoverReader, taken: Taken) -> None:
    reading.finish()
    reading._sock.close()
    for connection in taken.connections:
        connection.close()


@pytest.mark.parametrize("left", [0, 1])
def test_without_descriptors_connections_wait_and_all_are_received_later(
    left: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(handover: Handover) -> None:
        taken = Taken()
        reading = reader(handover, taken)
        try:
            with few_descriptors(left):
                reading.start()
                async with asyncio.timeout(DEADLINE):
                    while not caplog.records:
                        await asyncio.sleep(0.001)
                assert taken.connections == []
            async with asyncio.timeout(DEADLINE):
                while len(taken.connections) < COUNT:
                    await asyncio.sleep(0.001)
        finally:
            close_all(reading, taken)

    with handed_over() as (handover, _):
        # The loop's own descriptors are opened before the limit sinks.
        asyncio.run(test(handover))
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == ["no file descriptor is left"]


def test_what_a_closing_worker_has_no_descriptors_for_is_taken_back() -> None:
    async def test(handover: Handover, clients: list[socket.socket]) -> None:
        taken = Taken()
        reading = reader(handover, taken)
        reading.start()
        with few_descriptors(0):
            reading.finish()
        back = [connection for connection, *_ in handover.take_back()]
        assert taken.connections == []
        assert [each.getpeername() for each in back] == [client.getsockname() for client in clients]
        for each in back:
            each.close()
        close_all(reading, taken)

    with handed_over() as (handover, clients):
        asyncio.run(test(handover, clients))
