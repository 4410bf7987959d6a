"""Owns the measurement of pyzmq: DEALER sockets over ipc. Runs as a contestant: `zmq_peer PORT RECEIVERS`."""

import sys
import tempfile
from importlib import import_module
from typing import Any

from benchmarks.messenger_peers.peer import Receive, Reply, Transport, serve

zmq = import_module("zmq")  # not by statement: mypy has to pass where it is not installed


class ZmqTransport(Transport):
    """A DEALER to each receiver, another pair back. High-water marks are off: nothing may be dropped."""

    def __init__(self, receivers: int, folder: str) -> None:
        self.receivers = receivers
        self._folder = folder

    def _socket(self, address: str, *, bind: bool) -> Any:
        # The context belongs to the process: it must not be made before the fork.
        socket = zmq.Context.instance().socket(zmq.DEALER)
        socket.set_hwm(0)
        socket.linger = 0
        (socket.bind if bind else socket.connect)(f"ipc://{self._folder}/{address}")
        return socket

    def open_sender(self, *, replies: bool) -> None:
        self._to = [self._socket(f"to-{index}", bind=False) for index in range(self.receivers)]
        if replies:
            self._back = self._socket("back", bind=True)

    def open_receiver(self, index: int) -> tuple[Receive, Reply]:
        back = self._socket("back", bind=False)
        return self._socket(f"to-{index}", bind=True).recv, back.send

    def send(self, message: bytes) -> None:
        self._to[0].send(message)

    def broadcast(self, message: bytes) -> None:
        for socket in self._to:
            socket.send(message)

    def next_reply(self) -> bytes:
        return bytes(self._back.recv())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="eggcluster-zmq-") as folder:
        serve(ZmqTransport(int(sys.argv[2]), folder), int(sys.argv[1]))
