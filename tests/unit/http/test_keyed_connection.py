"""A keyed connection: what it serves, what it leaves to others, byte for byte, however the bytes come."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eggcluster.http.head import Header, RequestHead
from eggcluster.http.keyed_connection import KeyedConnection, Origin, resume
from eggcluster.http.reader import SLICE
from eggcluster.model.steering.key_home import MOST_HOPS, Destination
from eggcluster.packing import encode
from tests.unit.http.wire import Client, Receive, Scope, Send, Serving
from tests.waiting import until

AWAY = Destination(slot=2)
HERE = Destination(slot=1)
LOCALLY = Origin(None, None, "http", False)


class Router:
    """Each request for `/away` belongs elsewhere. `sent` is what was handed over, with a copy of the connection."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []
        self.full = 0  # so many times there is no room
        self.broken = False

    def destination(self, head: RequestHead) -> Destination | None:
        return AWAY if head.target == b"/away" else None

    def look(self, raw: bytes) -> Destination | None:
        return AWAY if raw.split(b" ")[1] == b"/away" else None

    def is_here(self, destination: Destination) -> bool:
        return destination == HERE

    def hand_over(self, fd: int, destination: Destination, request: bytes) -> bool:
        if self.broken:
            raise BrokenPipeError
        self.full -= 1
        if self.full >= 0:
            return False
        self.sent.append((os.dup(fd), request))
        return True

    def learn(self, head: RequestHead, scheme: str, headers: list[Header]) -> list[Header]:
        return headers


class Keyed(Serving):
    """The engine with keyed connections."""

    router: Router

    def _new_connection(self) -> KeyedConnection:
        return KeyedConnection(self.server, self.router)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends a request's body back; for `/where`, where the request seems to come from."""
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    if scope["path"] == "/where":
        body = json.dumps([scope["client"], scope["scheme"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body or b"-"})


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(path: str, *chunks: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


async def run(router: Router, pieces: list[bytes], answers: int) -> tuple[list[bytes], bytes]:
    """The bodies of so many answers, and what was handed over together with what is left on the connection."""
    serving = Keyed(echo)
    serving.router = router
    async with serving:
        client = await serving.connect()
        for piece in pieces:
            await client.send(piece)
            await asyncio.sleep(0)
        bodies = [(await client.answer()).body for _ in range(answers)]
        left = b""
        if not router.broken:
            await until(lambda: router.sent, "it is handed over")
            fd, request = router.sent[0]
            left = request[2 + int.from_bytes(request[:2]) :]
            os.set_blocking(fd, False)
            total = len(b"".join(pieces))
            while len(left) < total:
                try:
                    left += os.read(fd, 1 << 20)
                except BlockingIOError:
                    break
            os.close(fd)
            await until(lambda: not serving.server.connections, "it has left")
        return bodies, left


LOCAL = st.one_of(
    st.just((get("/"), b"-")),
    st.binary(max_size=40).map(lambda body: (post("/", body), body or b"-")),
    st.lists(st.sampled_from([b"a\r\n\r\n", b"\r\n\r\n", b"b", b"GET /away HTTP/1.1\r\n\r\n"]), max_size=3).map(
        lambda chunks: (chunked("/", *chunks), b"".join(chunks) or b"-")
    ),
)
REST = st.sampled_from(
    [get("/away"), post("/away", b"ab\r\n\r\n"), chunked("/away", b"x\r\n\r\n"), get("/away") + get("/")]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(LOCAL, max_size=4), REST, st.lists(st.integers(1, 60), max_size=12))
def test_what_is_handed_over_is_what_came_from_the_first_head_that_belongs_elsewhere(
    local: list[tuple[bytes, bytes]], rest: bytes, sizes: list[int]
) -> None:
    stream, pieces = b"".join(each for each, _ in local) + rest, []
    for size in sizes:
        pieces.append(stream[:size])
        stream = stream[size:]
    pieces = [piece for piece in (*pieces, stream) if piece]
    bodies, left = asyncio.run(run(Router(), pieces, len(local)))
    assert bodies == [body for _, body in local]
    assert left == rest


def test_it_waits_for_room() -> None:
    router = Router()
    router.full = 5
    assert asyncio.run(run(router, [get("/") + get("/away")], 1)) == ([b"-"], get("/away"))


def test_without_a_way_to_others_it_serves_the_request_itself() -> None:
    router = Router()
    router.broken = True
    assert asyncio.run(run(router, [post("/away", b"ab") + get("/away") + get("/")], 3))[0] == [b"ab", b"-", b"-"]


@pytest.mark.parametrize("hops", [0, MOST_HOPS])
def test_it_goes_on_with_what_others_have_read_and_serves_what_has_travelled_too_often(hops: int) -> None:
    async def test() -> None:
        async with resumed(post("/away" if hops else "/", b"abc")[:-2], hops=hops) as (client, router):
            await client.send(b"bc")
            assert (await client.answer()).body == b"abc"
            assert not router.sent
            await client.send(get("/away"))
            await until(lambda: router.sent, "it goes on")
            assert unpacked(router) == get("/away")

    asyncio.run(test())


def test_a_request_that_is_longer_than_a_slice_goes_on() -> None:
    body = b"x" * (SLICE + 1000)

    async def test() -> None:
        async with resumed(post("/", body) + get("/")) as (client, _):
            assert [(await client.answer()).body for _ in range(2)] == [body, b"-"]

    asyncio.run(test())


@pytest.mark.parametrize(
    "origin",
    [Origin(None, ("/run/x", None), "http", True), Origin(("192.0.2.1", 5), ("::1", 80), "https", False)],
)
def test_what_the_first_worker_knows_of_the_connection_travels(origin: Origin) -> None:
    async def test() -> None:
        async with resumed(get("/where"), origin=origin) as (client, router):
            assert json.loads((await client.answer()).body) == [origin.client and [*origin.client], origin.scheme]
            await client.send(get("/away"))
            await until(lambda: router.sent, "it goes on")
            assert router.sent[0][1].startswith(packed(origin))
            unpacked(router)

    asyncio.run(test())


def packed(origin: Origin) -> bytes:
    content = encode(origin)
    return len(content).to_bytes(2) + content


def unpacked(router: Router) -> bytes:
    """The bytes of the client's that were handed over."""
    fd, request = router.sent[0]
    os.close(fd)
    return request[2 + int.from_bytes(request[:2]) :]


@asynccontextmanager
async def resumed(early: bytes, hops: int = 1, origin: Origin = LOCALLY) -> AsyncIterator[tuple[Client, Router]]:
    """The client of a connection that was handed over with these bytes."""
    router = Router()
    async with Serving(echo) as serving:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        with closing(Client(ours, serving.server)) as client:
            resume(serving.server, router, theirs, Destination(hops=hops), packed(origin) + early)
            yield client, router
