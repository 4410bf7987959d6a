"""Owns what the direct transports have in common: the sender with its HTTP control, the receivers, the load.

Runs in the processes of `queue_peer`, `zmq_peer` and `redis_peer`. Task for task what cluster_station.py does, but with
blocking calls, as these transports are used, and without a master in between.
"""

import contextlib
import json
import multiprocessing
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlsplit

LOAD_TICK = 0.001  # s; as in cluster_station and in egg/station.js
LOAD_START = 0.05  # s
DATA, END, PING = b"d", b"e", b"p"  # a message's first byte; it counts as a part of the message's size

Receive = Callable[[], bytes]
Reply = Callable[[bytes], None]


class Transport(ABC):
    """One sender, some receivers. Made before the processes are forked; each then opens its own side."""

    receivers: int

    @abstractmethod
    def open_sender(self, *, replies: bool) -> None:
        """Open the sending side; `replies`: this one is the one whom the receivers answer."""

    @abstractmethod
    def open_receiver(self, index: int) -> tuple[Receive, Reply]:
        """Open a receiving side: the function that waits for the next message, and the one that answers."""

    @abstractmethod
    def send(self, message: bytes) -> None:
        """Send to the first receiver."""

    @abstractmethod
    def broadcast(self, message: bytes) -> None:
        """Send to all receivers."""

    def flush(self) -> None:  # noqa: B027 - not every transport joins messages
        """Send what has been collected."""

    @abstractmethod
    def next_reply(self) -> bytes:
        """Wait for the next answer."""

    def close(self) -> None:  # noqa: B027 - most leave that to their processes' end
        """End what runs beside."""


def receive_for_ever(transport: Transport, index: int) -> NoReturn:
    """A receiver: counts data, tells the count at the end, answers pings."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    receive, reply = transport.open_receiver(index)
    data, ping, count = DATA[0], PING[0], 0
    reply(b"ready")
    while True:
        message = receive()
        if message[0] == data:
            count += 1
        elif message[0] == ping:
            reply(message)
        else:
            reply(str(count).encode())
            count = 0


def load_on_demand(transport: Transport, orders: Connection) -> NoReturn:
    """The loader: sends `rate` messages of `size` bytes a second to the first receiver, until the next order; says so
    when it has stopped."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    transport.open_sender(replies=False)
    while True:
        rate, size = orders.recv()
        message, began, sent = data_of(size), time.perf_counter(), 0
        while rate and not orders.poll():
            due = int((time.perf_counter() - began) * rate)
            for _ in range(due - sent):
                transport.send(message)
            transport.flush()
            sent = due
            time.sleep(LOAD_TICK)
        if not rate:
            orders.send(None)


def data_of(size: int) -> bytes:
    return DATA + bytes(size - 1)


class Sender:
    """The measuring side."""

    def __init__(self, transport: Transport, load: Connection) -> None:
        self._transport = transport
        self._load = load

    def flood(self, send: Reply, size: int, count: int, batch: int, receivers: int) -> float:
        """Seconds from the first send until every receiver has said that it has all; RuntimeError for a loss."""
        message = data_of(size)
        began = time.perf_counter()
        for first in range(0, count, batch):
            for _ in range(min(batch, count - first)):
                send(message)
            self._transport.flush()
        counts = self._ask_counts(send, receivers)
        seconds = time.perf_counter() - began
        if counts != [count] * receivers:
            raise RuntimeError(f"lost messages: sent {count}, counted {counts}")
        return seconds

    def _ask_counts(self, send: Reply, receivers: int) -> list[int]:
        send(END)
        self._transport.flush()
        return [int(self._transport.next_reply()) for _ in range(receivers)]

    def ping(self, size: int, seconds: float, rate: float, bulk: int) -> dict[str, Any]:
        """Round trips, and the messages of the load that arrived meanwhile."""
        if rate:
            self._load.send((rate, bulk))
            time.sleep(LOAD_START)
        self._ask_counts(self._transport.send, 1)
        began = time.perf_counter()
        laps = self._laps(PING + bytes(size - 1), began + seconds)
        arrived = self._ask_counts(self._transport.send, 1)[0] / (time.perf_counter() - began)
        if rate:
            self._load.send((0, 1))
            self._load.recv()  # on a busy machine that may take a while, and what comes late would be counted as loss
            time.sleep(LOAD_START)
            self._ask_counts(self._transport.send, 1)
        return {"laps": laps, "load": arrived}

    def _laps(self, message: bytes, deadline: float) -> list[float]:
        transport, laps, now = self._transport, [], 0.0
        while now < deadline:
            began = time.perf_counter()
            transport.send(message)
            transport.flush()
            transport.next_reply()
            now = time.perf_counter()
            laps.append(now - began)
        return laps

    def run(self, task: str, **numbers: float) -> dict[str, Any]:
        size = int(numbers["size"])
        if task == "ping":
            return self.ping(size, numbers["seconds"], numbers["rate"], int(numbers["bulk"]))
        send = self._transport.send if task == "flood" else self._transport.broadcast
        receivers = 1 if task == "flood" else self._transport.receivers
        return {"seconds": self.flood(send, size, int(numbers["count"]), int(numbers["batch"]), receivers)}


def control(sender: Sender, port: int) -> HTTPServer:
    """The server that runs one task for each GET."""

    class Control(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = dict(parse_qsl(urlsplit(self.path).query))
            try:
                task = query.pop("task")
                result = sender.run(task, **{name: float(value) for name, value in query.items()})
            except Exception as error:
                result = {"error": repr(error)}
            body = json.dumps(result).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return HTTPServer(("127.0.0.1", port), Control)


def leave(number: int, frame: Any) -> NoReturn:
    raise SystemExit(0)


def serve(transport: Transport, port: int) -> None:
    """Start the receivers and the loader, then measure on demand until SIGTERM; prints `ready`."""
    signal.signal(signal.SIGTERM, leave)
    context = multiprocessing.get_context("fork")  # transports are made before it
    orders, load = context.Pipe()
    targets: list[tuple[Callable[..., NoReturn], tuple[Any, ...]]] = [
        (receive_for_ever, (transport, index)) for index in range(transport.receivers)
    ]
    targets.append((load_on_demand, (transport, orders)))
    children = [context.Process(target=target, args=arguments, daemon=True) for target, arguments in targets]
    for child in children:
        child.start()
    try:
        transport.open_sender(replies=True)
        for _ in range(transport.receivers):
            transport.next_reply()
        server = control(Sender(transport, load), port)
        print("ready", flush=True)  # noqa: T201 - the line that the benchmark waits for
        server.serve_forever()
    finally:
        for child in children:
            child.terminate()
        with contextlib.suppress(Exception):
            transport.close()
