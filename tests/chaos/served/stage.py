"""What is served under fire: answers that can be verified, and faults on demand. Any ASGI server can run it."""

import asyncio
import ctypes
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

IMPORT = float(os.environ.get("EGG_CHAOS_IMPORT", "0"))  # seconds that the import of an application takes
FOREVER = 600  # seconds; far beyond every limit of the tests
MIB = 2**20

time.sleep(IMPORT)
if os.path.exists("broken"):
    raise RuntimeError("broken, chaos asked for it")

_hoard: list[bytearray] = []


# -- answers -----------------------------------------------------------------------------------------------------


async def api(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        return await converse(receive, send)
    if scope["type"] == "lifespan":
        return await live(receive, send)
    what, _, given = scope["path"].strip("/").partition("/")
    return await ANSWERS[what](given, receive, send)


async def live(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def echo(nonce: str, receive: Receive, send: Send) -> None:
    """The nonce comes back."""
    await answer(send, nonce)


async def upload(nonce: str, receive: Receive, send: Send) -> None:
    """The nonce, the length and the checksum of the request's body come back."""
    digest, length, more = hashlib.sha256(), 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message.get("body", b""))
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await answer(send, f"{nonce} {length} {digest.hexdigest()}")


async def stream(given: str, receive: Receive, send: Send) -> None:
    """As many numbered lines as asked for, one every `pause` milliseconds: COUNT/PAUSE/NONCE."""
    count, pause, nonce = given.split("/")
    await send({"type": "http.response.start", "status": 200, "headers": headers()})
    for number in range(int(count)):
        line = f"{nonce} {number}\n".encode()
        await send({"type": "http.response.body", "body": line, "more_body": True})
        await asyncio.sleep(int(pause) / 1000)
    await send({"type": "http.response.body", "body": b""})


async def converse(receive: Receive, send: Send) -> None:
    """A WebSocket that echoes."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def answer(send: Send, text: str) -> None:
    body = text.encode()
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length, *headers()]})
    await send({"type": "http.response.body", "body": body})


def headers() -> list[tuple[bytes, bytes]]:
    """The worker that answers."""
    return [(b"x-worker", b"%d" % os.getpid())]


# -- faults ------------------------------------------------------------------------------------------------------


async def fault(kind: str, receive: Receive, send: Send) -> None:
    """Do the worst, or answer if this was not the worst."""
    if kind in FATAL:
        confess(kind)
        FATAL[kind]()
    if (work := HARMLESS[kind]()) is not None:
        await work
    await answer(send, kind)


def confess(kind: str) -> None:
    """Note the connections that this worker holds: it accepts no more, because the loop does not return."""
    held = {"fault": kind, "pid": os.getpid(), "at": time.monotonic(), "ports": peers()}
    with open(os.environ["EGG_CHAOS_LEDGER"], "ab", buffering=0) as ledger:
        ledger.write(json.dumps(held).encode() + b"\n")


def peers() -> list[int]:
    """The ports of all clients whose connections this process has accepted."""
    ports = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(fd))) as sock:
                if sock.family == socket.AF_INET:
                    ports.append(sock.getpeername()[1])
        except OSError:
            pass  # no socket, or one that listens
    return ports


def hold_the_gil() -> None:
    """Block in C without letting another thread run: PyDLL does not release the lock as CDLL does."""
    while True:  # a signal interrupts it
        ctypes.PyDLL(None).usleep(FOREVER * 1_000_000)


def spin() -> None:
    while True:
        pass


async def hoard() -> None:
    """Take memory, touch it, keep it: more than `--max-rss` allows. In slices: at once it may take seconds."""
    for _ in range(160):
        _hoard.append(bytearray(os.urandom(MIB)))
        await asyncio.sleep(0)


def have_a_daemon() -> None:
    """A grandchild in a session of its own."""
    subprocess.Popen(["sh", "-c", f"sleep {FOREVER} &"], start_new_session=True).wait()


def close_listeners() -> None:
    """As a library does that closes a file descriptor twice: no connection reaches this worker any more."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            with socket.socket(fileno=os.dup(fd)) as sock:
                listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            continue  # no socket
        if listens:
            os.close(fd)


def leave() -> None:
    sys.exit("chaos asked for it")


FATAL: dict[str, Callable[[], Any]] = {
    "exit": lambda: os._exit(7),
    "abort": os.abort,
    "sleep": lambda: time.sleep(FOREVER),
    "gil": hold_the_gil,
    "spin": spin,
}
HARMLESS: dict[str, Callable[[], Awaitable[None] | None]] = {
    "nap": lambda: time.sleep(0.5),
    "sysexit": leave,
    "hoard": hoard,
    "daemon": have_a_daemon,
    "close": close_listeners,
}
ANSWERS: dict[str, Callable[[str, Receive, Send], Awaitable[None]]] = {
    "echo": echo,
    "upload": upload,
    "stream": stream,
    "fault": fault,
}
