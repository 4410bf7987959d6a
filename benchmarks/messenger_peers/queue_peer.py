"""Owns the measurement of `multiprocessing.Queue`. Runs as a contestant: `queue_peer PORT RECEIVERS`."""

import multiprocessing
import sys
from typing import TYPE_CHECKING

from benchmarks.messenger_peers.peer import Receive, Reply, Transport, serve

if TYPE_CHECKING:
    from multiprocessing.queues import Queue


class QueueTransport(Transport):
    """One queue to each receiver, one back from all."""

    def __init__(self, receivers: int) -> None:
        self.receivers = receivers
        context = multiprocessing.get_context("fork")
        self._to: list[Queue[bytes]] = [context.Queue() for _ in range(receivers)]
        self._back: Queue[bytes] = context.Queue()

    def open_sender(self, *, replies: bool) -> None:
        for queue in self._to:
            queue.cancel_join_thread()  # at its end nobody reads any more

    def open_receiver(self, index: int) -> tuple[Receive, Reply]:
        return self._to[index].get, self._back.put

    def send(self, message: bytes) -> None:
        self._to[0].put(message)

    def broadcast(self, message: bytes) -> None:
        for queue in self._to:
            queue.put(message)

    def next_reply(self) -> bytes:
        return self._back.get()


if __name__ == "__main__":
    serve(QueueTransport(int(sys.argv[2])), int(sys.argv[1]))
