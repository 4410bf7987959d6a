"""A load generator whose clients have addresses of their own. Runs as a process of its own, beside the servers.

    python -m benchmarks.http_peers.clients PORT SECONDS CONNECTIONS FIRST SOURCES [close]

wrk cannot choose its source address, and who is pinned by address wants many. A closed loop, as wrk's: each of the
connections sends its next request when its answer is there. With `close` each request has a connection of its own. The
addresses are 127.0.x.y, `SOURCES` of them, taken in turn. Prints one JSON object.

It costs 8 µs a request, wrk 5: written for that, with local names, without asyncio.
"""

import gc
import itertools
import json
import select
import socket
import sys
import time

IP_BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>: the port is chosen when the other end is known, so it may be used again
END = b"hello world"
KEEP, CLOSE = (f"GET / HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode() for more in ("", "Connection: close\r\n"))


def connect(port: int, source: str) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((source, 0))
    sock.connect(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def keep_alive(port: int, seconds: float, connections: int, sources: list[str]) -> list[int]:
    """The nanoseconds of each answer."""
    now, poll, laps = time.perf_counter_ns, select.epoll(), list[int]()
    socks = {(sock := connect(port, source)).fileno(): sock for source in itertools.islice(
        itertools.cycle(sources), connections)}  # fmt: skip
    sent = {}
    for fd, sock in socks.items():
        poll.register(fd, select.EPOLLIN)
        sent[fd] = now()
        sock.send(KEEP)
    end = now() + int(seconds * 1e9)
    while (instant := now()) < end:
        for fd, _ in poll.poll():
            sock = socks[fd]
            if not (data := sock.recv(4096)):
                raise ConnectionError("closed by the server")
            if data.endswith(END):
                instant = now()
                laps.append(instant - sent[fd])
                sent[fd] = instant
                sock.send(KEEP)
    return laps


def one_request_each(port: int, seconds: float, connections: int, sources: list[str]) -> list[int]:
    """The nanoseconds from each connect to its answer."""
    now, poll, laps, socks, began = time.perf_counter_ns, select.epoll(), list[int](), {}, {}
    turn = itertools.cycle(sources)

    def open_one() -> None:
        instant = now()
        sock = connect(port, next(turn))
        sock.send(CLOSE)
        fd = sock.fileno()
        socks[fd], began[fd] = sock, instant
        poll.register(fd, select.EPOLLIN)

    for _ in range(connections):
        open_one()
    end = now() + int(seconds * 1e9)
    while now() < end:
        for fd, _ in poll.poll():
            if not (data := socks[fd].recv(4096)):
                raise ConnectionError("closed by the server")
            if data.endswith(END):
                laps.append(now() - began[fd])
                socks.pop(fd).close()
                open_one()
    return laps


def main(port: str, seconds: str, connections: str, first: str, sources: str, *close: str) -> None:
    gc.disable()
    numbers = range(int(first), int(first) + int(sources))
    addresses = [f"127.0.{number // 250}.{1 + number % 250}" for number in numbers]
    generate = one_request_each if close else keep_alive
    began = time.perf_counter()
    laps = generate(int(port), float(seconds), int(connections), addresses)
    took = time.perf_counter() - began
    laps.sort()
    cuts = {name: laps[int(len(laps) * part)] / 1e9 for name, part in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))}
    print(json.dumps({"requests": len(laps), "seconds": took, **cuts}))  # noqa: T201 - what the benchmark reads


if __name__ == "__main__":
    main(*sys.argv[1:])
