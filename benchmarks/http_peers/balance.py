"""Owns the measurement of balance: how many of the connections that are opened at once each worker gets."""

import http.client
import selectors
import socket
import time
from collections import Counter

from benchmarks.boot import HOST, BenchmarkError
from benchmarks.http_peers.server import Server

PATIENCE = 10.0  # s
REQUEST = b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n"


def most_over_mean(server: Server, connections: int, workers: int) -> float:
    """How many connections the most loaded worker has, over the mean: 1 is even, `workers` is all on one.

    As a load generator does it: all are opened at once, and each sends its request as soon as it is connected.
    """
    socks = [_connecting(server.port) for _ in range(connections)]
    try:
        counts = Counter(_answers(server, socks))
    finally:
        for sock in socks:
            sock.close()
    return max(counts.values()) * workers / connections


def _connecting(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex((HOST, port))
    return sock


def _answers(server: Server, socks: list[socket.socket]) -> list[bytes]:
    """The pids that they are answered with."""
    with selectors.DefaultSelector() as waiting:
        for sock in socks:
            waiting.register(sock, selectors.EVENT_WRITE)
        deadline = time.monotonic() + PATIENCE
        while waiting.get_map():
            ready = waiting.select(deadline - time.monotonic())
            if not ready:
                raise BenchmarkError(f"{server.name}: {len(waiting.get_map())} of {len(socks)} could not connect")
            for key, _ in ready:
                key.fileobj.send(REQUEST)  # type: ignore[union-attr]  # it is one of the sockets
                waiting.unregister(key.fileobj)
    return [_pid(server, sock) for sock in socks]


def _pid(server: Server, sock: socket.socket) -> bytes:
    sock.setblocking(True)
    sock.settimeout(PATIENCE)
    response = http.client.HTTPResponse(sock)
    response.begin()
    if response.status != 200:
        raise BenchmarkError(f"{server.name} answered {response.status} to {REQUEST!r}")
    return response.read()
