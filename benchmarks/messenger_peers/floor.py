"""Owns the floor under the round trips: four bare hops without any of our code. Runs by hand, on Linux.

    python -m benchmarks.messenger_peers.floor [rounds]

Three processes and two socket pairs, as app, master and agent have them; each message is handed on as it came. Once
with blocking calls, once with uvloop's transports, which is what any relay on uvloop costs before it does anything.
"""

import asyncio
import os
import signal
import socket
import statistics
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

MESSAGE = bytes(60)  # as long as the frame of the benchmark's ping
TRIPS, WARM_UP = 4000, 500
SETTLE = 0.3  # s; until the event loops of all processes run
FAR = 1e6  # s


class Hop(asyncio.Protocol):
    """Hands every chunk to `on_data`."""

    def __init__(self, on_data: Callable[[bytes], None]) -> None:
        self.data_received = on_data  # type: ignore[method-assign,assignment]  # one call less


async def connect(sock: socket.socket, on_data: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Reads from the socket from now on; gives the function that writes to it."""
    sock.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: Hop(on_data), sock=sock)
    return transport.write


async def relay(left: socket.socket, right: socket.socket) -> None:
    to_right = await connect(right, lambda data: to_left(data))
    to_left = await connect(left, to_right)
    await asyncio.sleep(FAR)


async def echo(sock: socket.socket) -> None:
    write = await connect(sock, lambda data: write(data))
    await asyncio.sleep(FAR)


async def measure(sock: socket.socket) -> list[float]:
    laps: list[float] = []
    done = asyncio.get_running_loop().create_future()

    def on_data(data: bytes) -> None:
        now = time.perf_counter()
        laps.append(now - began[0])
        if len(laps) == TRIPS:
            done.set_result(None)
            return
        began[0] = now
        write(MESSAGE)

    write = await connect(sock, on_data)
    began = [time.perf_counter()]
    write(MESSAGE)
    await done
    return laps


def relay_blocking(left: socket.socket, right: socket.socket) -> None:
    while True:
        right.send(left.recv(65536))
        left.send(right.recv(65536))


def echo_blocking(sock: socket.socket) -> None:
    while True:
        sock.send(sock.recv(65536))


def measure_blocking(sock: socket.socket) -> list[float]:
    laps = []
    for _ in range(TRIPS):
        began = time.perf_counter()
        sock.send(MESSAGE)
        sock.recv(65536)
        laps.append(time.perf_counter() - began)
    return laps


def on_uvloop(work: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    def run(*socks: socket.socket) -> Any:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work(*socks))

    return run


def fork(work: Callable[..., Any], *socks: socket.socket) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work(*socks)
        finally:
            os._exit(1)
    return pid


def p50(app: Callable[..., list[float]], master: Callable[..., Any], agent: Callable[..., Any]) -> float:
    """The median round trip, in seconds."""
    (a, b), (c, d) = socket.socketpair(), socket.socketpair()
    children = [fork(master, b, c), fork(agent, d)]
    try:
        time.sleep(SETTLE)
        return statistics.median(app(a)[WARM_UP:])
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def main() -> None:
    kinds = {
        "blocking calls": (measure_blocking, relay_blocking, echo_blocking),
        "uvloop's transports": (on_uvloop(measure), on_uvloop(relay), on_uvloop(echo)),
    }
    trips: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        for kind, ends in kinds.items():
            trips[kind].append(p50(*ends))
    for kind, values in trips.items():
        print(f"{kind}: {statistics.median(values) * 1e6:.0f} µs")  # noqa: T201


if __name__ == "__main__":
    main()
