"""Owns connections that do nothing: how they are opened, and how many the server has kept. Runs in the benchmark."""

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from benchmarks.boot import HOST, BenchmarkError
from benchmarks.http_peers.server import Server

PATIENCE = 30.0  # s
SPARE = 500  # descriptors that server and benchmark need for all the rest
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def allow_descriptors(connections: int) -> bool:
    """Raise RLIMIT_NOFILE so that server and benchmark can hold so many connections; False: not allowed.

    A server that is started afterwards inherits it.
    """
    wanted = connections + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return True
    with suppress(OSError, ValueError):
        enough = hard == resource.RLIM_INFINITY or hard >= wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard if enough else wanted))
        return True
    return False


@contextmanager
def idle_connections(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Open connections, one after the other; each has had one answer and stays."""
    socks: list[socket.socket] = []
    try:
        for _ in range(count):
            socks.append(_answered(server))
        yield socks
    finally:
        for sock in socks:
            sock.close()


def kept(socks: list[socket.socket]) -> int:
    """How many of them the server has not closed."""
    return sum(_is_open(sock) for sock in socks)


def _answered(server: Server) -> socket.socket:
    sock = socket.create_connection((HOST, server.port), timeout=PATIENCE)
    sock.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"hello world"):
        if not (data := sock.recv(4096)):
            raise BenchmarkError(f"{server.name} closed a connection after {answer!r}")
        answer += data
    return sock


def _is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return bool(sock.recv(1))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
