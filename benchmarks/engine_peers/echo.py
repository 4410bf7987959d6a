"""A WebSocket client that sends the next message when it has the echo of the last one. Runs beside the server.

    python -m benchmarks.engine_peers.echo PORT SECONDS CONNECTIONS

A closed loop over raw sockets: the frame is made and masked once, so that a message costs the client less than any
server. It offers no compression (RFC 7692). Prints one JSON object.
"""

import gc
import json
import os
import select
import socket
import sys
import time

HOST = "127.0.0.1"
PATIENCE = 10.0  # s
TEXT = b"0123456789abcdef" * 4
HANDSHAKE = (
    f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
TEXT_OPCODE, CLOSE_OPCODE = 1, 8
FIN = 0x80


def masked(opcode: int, payload: bytes) -> bytes:
    """A final frame of a client (RFC 6455, 5.2); `payload` has at most 125 bytes."""
    key = os.urandom(4)
    hidden = bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))
    return bytes((FIN | opcode, FIN | len(payload))) + key + hidden


def connect(port: int) -> socket.socket:
    sock = socket.create_connection((HOST, port), timeout=PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(HANDSHAKE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (data := sock.recv(4096)):
            raise ConnectionError(f"closed after {head!r}")
        head += data
    if not head.startswith(b"HTTP/1.1 101 "):
        raise ConnectionError(f"no WebSocket: {head!r}")
    return sock


def echoes(socks: dict[int, socket.socket], seconds: float) -> list[int]:
    """The nanoseconds from each message to its echo."""
    now, poll, laps, frame = time.perf_counter_ns, select.epoll(), list[int](), masked(TEXT_OPCODE, TEXT)
    expected, got, sent = bytes((FIN | TEXT_OPCODE, len(TEXT))) + TEXT, dict.fromkeys(socks, b""), dict[int, int]()
    for fd, sock in socks.items():
        poll.register(fd, select.EPOLLIN)
        sent[fd] = now()
        sock.send(frame)
    end = now() + int(seconds * 1e9)
    while now() < end:
        for fd, _ in poll.poll(PATIENCE):
            if not (data := socks[fd].recv(4096)):
                raise ConnectionError("closed by the server")
            got[fd] += data
            if len(got[fd]) >= len(expected):
                if got[fd] != expected:
                    raise ConnectionError(f"no echo: {got[fd]!r}")
                instant = now()
                laps.append(instant - sent[fd])
                got[fd], sent[fd] = b"", instant
                socks[fd].send(frame)
    return laps


def close(sock: socket.socket) -> None:
    """The closing handshake; what was still on its way is not counted."""
    sock.sendall(masked(CLOSE_OPCODE, (1000).to_bytes(2, "big")))
    while sock.recv(4096):
        pass
    sock.close()


def main(port: str, seconds: str, connections: str) -> None:
    gc.disable()
    socks = {sock.fileno(): sock for sock in [connect(int(port)) for _ in range(int(connections))]}
    began = time.perf_counter()
    laps = echoes(socks, float(seconds))
    took = time.perf_counter() - began
    for sock in socks.values():
        close(sock)
    laps.sort()
    cuts = {name: laps[int(len(laps) * part)] / 1e9 for name, part in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))}
    print(json.dumps({"requests": len(laps), "seconds": took, **cuts}))  # noqa: T201 - what the benchmark reads


if __name__ == "__main__":
    main(*sys.argv[1:])
