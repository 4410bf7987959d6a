"""The queue of a WSGI pool: its order, whom it wakes, and that no item waits beside an idle thread."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from eggcluster.http.wsgi_pool import WsgiPool
from eggcluster.http.wsgi_queue import WorkQueue
from tests.unit.conftest import Run
from tests.waiting import DEADLINE, until, wait_until

THREADS = 4


class Takers:
    """Threads that take items until they get None; they note what they took."""

    def __init__(self, queue: WorkQueue[int | None], count: int, *, wakes_next: bool) -> None:
        self.queue, self.wakes_next = queue, wakes_next
        self.taken: list[int] = []
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _run(self) -> None:
        wake = threading.Lock()
        wake.acquire()
        while (item := self.queue.take(wake)) is not None:
            if self.wakes_next:
                self.queue.wake()
            self.taken.append(item)

    def wait(self, count: int) -> None:
        """Wait until so many items have been taken."""
        wait_until(lambda: len(self.taken) >= count, f"{count} items are taken")

    def end(self) -> None:
        for _ in self.threads:
            self.queue.put(None)
        self.queue.wake_all()
        for thread in self.threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()


@contextmanager
def takers(queue: WorkQueue[int | None], count: int, *, wakes_next: bool = True) -> Iterator[Takers]:
    found = Takers(queue, count, wakes_next=wakes_next)
    try:
        yield found
    finally:
        found.end()


def test_items_are_taken_in_order() -> None:
    queue = WorkQueue[int | None]()
    for item in range(100):
        queue.put(item)
    assert len(queue) == 100
    with takers(queue, 1) as found:
        found.wait(100)
    assert found.taken == list(range(100))


def test_one_thread_is_woken_for_all_that_waits_and_none_for_nothing() -> None:
    queue = WorkQueue[int | None]()
    with takers(queue, THREADS, wakes_next=False) as found:
        wait_until(lambda: queue.idle == THREADS, "all threads wait")
        queue.wake()
        assert queue.idle == THREADS
        queue.put(1)
        queue.put(2)
        queue.wake()
        assert queue.idle == THREADS - 1
        found.wait(2)
        wait_until(lambda: queue.idle == THREADS, "the one thread waits again")


def test_no_item_is_left_and_none_is_taken_twice() -> None:
    queue = WorkQueue[int | None]()
    with takers(queue, THREADS) as found:
        for item in range(20_000):
            queue.put(item)
            if item % 3 == 0:
                queue.wake()
        queue.wake()
        found.wait(20_000)
    assert sorted(found.taken) == list(range(20_000))


class Meeting:
    """A request that waits for others to be served at the same time."""

    def __init__(self, barrier: threading.Barrier) -> None:
        self.barrier = barrier
        self.has_met = False

    def serve(self) -> None:
        self.barrier.wait(DEADLINE)
        self.has_met = True


def _all_have_met(meetings: list[Meeting]) -> bool:
    return all(each.has_met for each in meetings)


def test_requests_of_one_turn_that_wait_are_served_at_the_same_time(run: Run) -> None:
    async def work() -> None:
        pool = WsgiPool(THREADS, asyncio.get_running_loop())
        try:
            for _ in range(50):  # new threads in the first round, idle ones in the others
                barrier = threading.Barrier(THREADS)
                meetings = [Meeting(barrier) for _ in range(THREADS)]
                for meeting in meetings:
                    pool.submit(meeting)
                await until(partial(_all_have_met, meetings), "all are served at once")
        finally:
            pool.close()

    run(work())
