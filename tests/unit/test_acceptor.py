"""The acceptor: accepts what it is told to, hands over by the course, keeps what cannot go yet, bounded."""

import asyncio
import contextlib
import os
import resource
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from eggcluster.kernel.connection_handover import receive
from eggcluster.kernel.inherited_sockets import inherited_socket
from eggcluster.master.listening.acceptor import RESERVE, SHARE, Acceptor
from eggcluster.model.lives.worker import AppWorker, WorkerState
from eggcluster.model.steering.steering_plan import SlotView, Steering
from tests.unit.few_descriptors import room_for
from tests.waiting import DEADLINE, until


class Bench:
    """An acceptor with a listener and two workers that listen, each read by the test."""

    def __init__(self, *, most_waiting: int = 1000) -> None:
        self.acceptor = Acceptor(most_waiting)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.steering = Steering(2, sticky=False, hold=5)
        self.workers = [AppWorker(slot, 1, 0, 60) for slot in (1, 2)]
        self.ends = []
        for worker in self.workers:
            self.ends.append(inherited_socket(os.dup(self.acceptor.open_handover(worker))))
            worker.advance(WorkerState.LISTENING)
        self.clients: list[socket.socket] = []
        self.received: list[socket.socket] = []

    def open(self, *slots: int) -> None:
        """These slots are open from now on, and it accepts."""
        self.acceptor.follow(self.steering.update([SlotView(slot, slot in slots) for slot in (1, 2)], 0))
        self.acceptor.start_master_socket_server({self.listener: False})

    def connect(self, count: int) -> None:
        self.clients += [socket.create_connection(self.listener.getsockname()) for _ in range(count)]

    def read(self, slot: int) -> int:
        """How many have come for the worker in `slot` since the last time."""
        came = [connection for connection, *_ in receive(self.ends[slot - 1])]
        self.received += came
        return len(came)

    def close(self) -> None:
        self.acceptor.close()
        for worker in self.workers:
            self.acceptor.close_handover(worker)
        for sock in (self.listener, *self.ends, *self.clients, *self.received):
            sock.close()


@pytest.fixture
def run() -> Iterator[Callable[..., None]]:
    before = set(os.listdir("/dev/fd"))

    def run(test: Callable[[Bench], Awaitable[None]], **options: int) -> None:
        async def work() -> None:
            bench = Bench(**options)
            try:
                async with asyncio.timeout(DEADLINE):
                    await test(bench)
            finally:
                bench.close()

        asyncio.run(work())

    yield run
    assert set(os.listdir("/dev/fd")) <= before, "a file descriptor is left"


@contextlib.contextmanager
def taken(count: int) -> Iterator[None]:
    """So many descriptors can be had, and are."""
    descriptors = [os.dup(0) for _ in range(count)]
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_connections_are_spread_over_the_open_slots(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        bench.open(1, 2)
        bench.connect(20)
        await until(lambda: bench.acceptor.handed_over == 20)
        assert (bench.read(1), bench.read(2)) == (10, 10)

    run(test)


def test_while_no_slot_is_open_nothing_is_accepted(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        bench.open()
        bench.connect(3)
        await asyncio.sleep(0.02)
        assert (bench.acceptor.handed_over, bench.acceptor.waiting) == (0, 0)
        bench.open(2)
        await until(lambda: bench.acceptor.handed_over == 3)
        assert bench.read(2) == 3

    run(test)


def test_what_a_closed_slots_worker_has_not_received_goes_to_the_other(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        bench.open(1)
        bench.connect(5)
        await until(lambda: bench.acceptor.handed_over == 5)
        bench.open(2)
        assert (bench.read(1), bench.read(2)) == (0, 5)

    run(test)


def test_what_a_dead_worker_has_not_received_goes_to_the_other(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        bench.open(1, 2)
        bench.connect(6)
        await until(lambda: bench.acceptor.handed_over == 6)
        bench.workers[0].advance(WorkerState.DEAD)
        bench.acceptor.close_handover(bench.workers[0])
        assert bench.read(2) == 6

    run(test)


def test_a_worker_that_does_not_read_leaves_the_rest_to_the_other(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        bench.open(1, 2)
        seen: Counter[int] = Counter()
        for _ in range(7):
            bench.connect(100)
            await until(lambda: bench.acceptor.handed_over + bench.acceptor.waiting == len(bench.clients))
            seen[2] += bench.read(2)
        assert bench.acceptor.waiting == 0
        assert seen[2] > 350
        assert bench.read(1) + seen[2] == 700

    run(test)


def test_no_more_are_accepted_than_may_wait_and_all_go_on_later(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        bench.open(1)
        room = 0
        while not bench.acceptor.waiting:
            bench.connect(50)
            await until(lambda: bench.acceptor.handed_over + bench.acceptor.waiting >= min(len(bench.clients), 10_000))
            room = bench.acceptor.handed_over
        bench.connect(200)
        await until(lambda: bench.acceptor.waiting >= 100)
        assert bench.acceptor.waiting == 100
        came = 0
        while came < len(bench.clients):
            came += bench.read(1)
            await asyncio.sleep(0.001)
        assert room > 0

    run(test, most_waiting=100)


def test_with_too_many_open_files_they_wait_in_the_kernel_and_the_log_says_so_once(
    run: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def test(bench: Bench) -> None:
        bench.open()
        bench.connect(3)
        fillers: list[int] = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(fd) for fd in os.listdir("/dev/fd")) + 2, hard))
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.dup(0))
            bench.open(1)
            await until(lambda: bool(caplog.records))
            await asyncio.sleep(0.12)  # two more tries
            assert bench.acceptor.handed_over == 0
        finally:
            for fd in fillers:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await until(lambda: bench.acceptor.handed_over == 3)
        assert bench.read(1) == 3
        assert len(caplog.records) == 1
        assert "the master cannot accept" in caplog.text

    run(test)


def test_few_descriptors_are_left_to_the_master_and_all_that_wait_go_on_later(
    run: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    async def test(bench: Bench) -> None:
        def come() -> int:
            return bench.acceptor.handed_over + bench.acceptor.waiting

        bench.open(1)
        while not bench.acceptor.waiting:  # its worker does not read
            bench.connect(50)
            await until(lambda: come() == len(bench.clients))
        before = come()
        bench.connect(100)
        with room_for(20, RESERVE, SHARE) as reserved:
            await until(lambda: bool(caplog.records))
            await asyncio.sleep(0.12)  # two more tries
            assert come() - before == 21
            with taken(reserved - 1):  # as a replacement would
                pass
        came = 0
        while came < len(bench.clients):
            came += bench.read(1)
            await asyncio.sleep(0.001)
        assert len(caplog.records) == 1

    run(test)


def test_what_a_dead_worker_leaves_does_not_take_the_reserve_and_goes_on_later(
    run: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def test(bench: Bench) -> None:
        bench.open(1)
        bench.connect(150)  # more than the reserve; its worker does not read
        await until(lambda: bench.acceptor.handed_over == 150)
        with room_for(20, RESERVE, SHARE) as reserved:
            bench.workers[0].advance(WorkerState.DEAD)
            bench.acceptor.close_handover(bench.workers[0])
            await until(lambda: bench.acceptor.waiting == 20)
            await asyncio.sleep(0.12)  # two more tries
            assert bench.acceptor.waiting == 20
            with taken(reserved - 1):  # as a replacement would
                pass
        bench.open(2)
        came = 0
        while came < 150:
            came += bench.read(2)
            await asyncio.sleep(0.001)
        assert len([1 for record in caplog.records if "did not receive 150" in record.getMessage()]) == 1
        assert len(caplog.records) == 2, "it says that few descriptors are left, once"

    run(test)


def test_after_the_close_what_a_dead_worker_left_is_closed(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        bench.open(1)
        bench.connect(30)
        await until(lambda: bench.acceptor.handed_over == 30)
        with room_for(5, RESERVE, SHARE):
            bench.workers[0].advance(WorkerState.DEAD)
            bench.acceptor.close_handover(bench.workers[0])
            bench.acceptor.close()
        assert all(client.recv(1) == b"" for client in bench.clients)

    run(test)


def test_after_the_close_what_waits_is_closed_and_nothing_is_accepted(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        bench.open(1)
        bench.connect(2)
        await until(lambda: bench.acceptor.handed_over == 2)
        bench.acceptor.close()
        bench.workers[0].advance(WorkerState.DEAD)
        bench.acceptor.close_handover(bench.workers[0])
        assert bench.acceptor.waiting == 0
        assert all(client.recv(1) == b"" for client in bench.clients)

    run(test)


def test_a_worker_that_shut_its_end_down_is_told_of_and_others_get_its_connections(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        broken: list[str] = []
        bench.acceptor.on_broken = lambda worker, error: broken.append(f"{worker.slot}: {error.strerror}")
        bench.open(1, 2)
        bench.ends[0].shutdown(socket.SHUT_RDWR)
        bench.connect(10)
        await until(lambda: bench.acceptor.handed_over == 10)
        assert bench.read(2) == 10
        assert broken == ["1: Broken pipe"]

    run(test)


def test_a_listener_or_an_end_that_was_made_blocking_does_not_stop_it(run: Callable[..., None]) -> None:
    """Any process that shares them can do that."""

    async def test(bench: Bench) -> None:
        bench.open(1, 2)
        for sock in (bench.listener, *bench.ends):
            os.set_blocking(sock.fileno(), True)
        bench.connect(2)
        await until(lambda: bench.acceptor.handed_over == 2)
        bench.acceptor.close_handover(bench.workers[0])
        assert bench.acceptor.handed_over == 3, "what was on its way to it went to the other one"

    run(test)
