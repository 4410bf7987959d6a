"""Connections from one worker to another: the first over the master, later ones directly while the other lives."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from eggcluster.ipc.key_table import KeyTable, OwnKeys
from eggcluster.kernel.connection_handover import Handed, receive
from eggcluster.kernel.inherited_sockets import inherited_socket
from eggcluster.master.listening.acceptor import Acceptor
from eggcluster.master.listening.key_steering import KeySteering
from eggcluster.model.lives.worker import AppWorker, WorkerState
from eggcluster.model.steering.key_home import Destination, Part
from eggcluster.model.steering.key_source import key_sources
from eggcluster.model.steering.steering_plan import SlotView
from eggcluster.worker.app.key_router import TableRouter
from tests.waiting import until


class Worker:
    """A worker as far as it gives connections away, and gets them."""

    def __init__(self, keys: KeySteering, acceptor: Acceptor, slot: int) -> None:
        self.worker = AppWorker(slot, 1, 0, 60)
        self.part = Part(*keys.open_part(self.worker)["key_part"])
        self.end = inherited_socket(os.dup(acceptor.open_handover(self.worker)))
        self.table = KeyTable(os.dup(keys.table.fd), 2)
        self.router = TableRouter(OwnKeys(self.table, self.part), key_sources(["query:a"]))
        self.router.exit = self.end
        self.worker.advance(WorkerState.LISTENING)

    def read(self) -> list[Handed]:
        """What has come for it; direct sockets go to the router."""
        got = list(receive(self.end))
        for each in got:
            if each.direct_to:
                self.router.add_direct(each.direct_to, each.connection)
            else:
                each.connection.close()
        return got

    async def requests(self) -> list[bytes]:
        """The next requests that come for it."""
        got: list[bytes] = []

        def look() -> bool:
            got.extend(Destination.unpack(each.request)[1] for each in self.read() if each.request)
            return bool(got)

        await until(look, "a request has come")
        return got

    def close(self) -> None:
        self.router.close()
        self.end.close()
        self.table.close()


class Site:
    """A master with two workers, in slots 1 and 2."""

    def __init__(self) -> None:
        self.keys = KeySteering(2, hold=60)
        self.acceptor = Acceptor(1000, self.keys)
        self.workers = [Worker(self.keys, self.acceptor, slot) for slot in (1, 2)]
        self.keys.follow([SlotView(1, True), SlotView(2, True)], 0)
        self.client, self.connection = socket.socketpair()

    def hand_over(self, destination: Destination, request: bytes) -> None:
        """Worker 1 gives a connection away."""
        assert self.workers[0].router.hand_over(self.connection.fileno(), destination, request)

    async def connect(self) -> None:
        """Worker 1 gets its direct socket to worker 2."""
        one, two = self.workers
        self.hand_over(Destination(two.part, 2), b"first")
        assert await two.requests() == [b"first"]
        await until(one.read, "the direct socket has come")

    def kill(self, worker: Worker) -> None:
        worker.worker.advance(WorkerState.DEAD)
        self.keys.close_part(worker.worker)
        self.acceptor.close_handover(worker.worker)

    def close(self) -> None:
        for each in self.workers:
            each.close()
            self.acceptor.close_handover(each.worker)
        self.acceptor.close()
        self.keys.close()
        self.client.close()
        self.connection.close()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(os.listdir("/dev/fd"))
    yield
    assert set(os.listdir("/dev/fd")) <= before, "a file descriptor is left"


def test_only_the_first_connection_goes_over_the_master() -> None:
    async def test() -> None:
        with contextlib.closing(Site()) as site:
            await site.connect()
            site.hand_over(Destination(site.workers[1].part, 2), b"second")
            site.hand_over(Destination(site.workers[1].part), b"third")
            assert [each.request[-6:] for each in site.workers[1].read()] == [b"second", b"\0third"]  # at once
            assert site.keys.handovers == 3

    asyncio.run(test())


def test_what_a_dead_worker_has_not_read_goes_to_another_one_however_it_came() -> None:
    async def test() -> None:
        with contextlib.closing(Site()) as site:
            await site.connect()
            one, two = site.workers
            site.hand_over(Destination(two.part), b"unread")
            site.kill(two)
            assert await one.requests() == [b"unread"]
            site.hand_over(Destination(two.part), b"late")  # worker 1 has seen it alive a moment ago
            assert await one.requests() == [b"late"]
            assert site.keys.handovers == 3

    asyncio.run(test())


def test_direct_sockets_to_workers_that_are_gone_are_closed_when_a_new_one_comes() -> None:
    async def test() -> None:
        with contextlib.closing(Site()) as site:
            await site.connect()
            one, two = site.workers
            assert list(one.router._direct) == [two.part]
            site.kill(two)
            two.close()
            site.workers[1] = new = Worker(site.keys, site.acceptor, 2)
            site.keys.follow([SlotView(1, True), SlotView(2, True)], 0)
            assert new.part != two.part
            await site.connect()
            assert list(one.router._direct) == [new.part]

    asyncio.run(test())


def test_a_direct_socket_to_a_worker_that_has_left_meanwhile_is_not_kept() -> None:
    async def test() -> None:
        with contextlib.closing(Site()) as site:
            one, two = site.workers
            site.keys.table.leave(two.part)
            late = socket.socket(socket.AF_UNIX)
            one.router.add_direct(two.part.pack(), late)
            assert late.fileno() == -1

    asyncio.run(test())


def test_a_worker_without_a_part_has_no_name() -> None:
    with contextlib.closing(KeySteering(1, hold=60)) as keys:
        assert keys.name_of(AppWorker(1, 1, 0, 60)) == b""
