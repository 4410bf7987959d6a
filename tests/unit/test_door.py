"""A worker without file descriptors: it serves what it has, lets the others wait, and resets no connection."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from eggcluster.http import relief
from eggcluster.kernel.descriptors import Descriptors
from eggcluster.options import ResolvedOptions
from tests.unit.conftest import Run
from tests.unit.few_descriptors import room_for
from tests.unit.serving import run_server  # noqa: F401
from tests.unit.test_http_engine import REQUEST, Receive, Send, Standing, scheme
from tests.waiting import DEADLINE, until

OK = b"HTTP/1.1 200 OK"
DESCRIPTORS_KEPT = 4  # the reserve here, whatever else this process holds: by default it depends on the limit
Narrow = tuple[Standing, list[socket.socket]]
ONE_SHOT = REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")


@contextlib.asynccontextmanager
async def narrow(
    clients: int, room: int, app: Callable[..., Any] = scheme, options: ResolvedOptions | None = None
) -> AsyncIterator[Narrow]:
    """An engine with room for so many connections, and sockets for its clients, which are in the same process."""
    async with contextlib.AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("eggcluster.worker.engines.accept_loop.Descriptors", lambda: Descriptors(DESCRIPTORS_KEPT, 1))
        found = [stack.enter_context(socket.socket()) for _ in range(clients)]
        for sock in found:
            sock.setblocking(False)
        standing = Standing(options, app=app)
        stack.enter_context(room_for(room, DESCRIPTORS_KEPT, 1))
        await stack.enter_async_context(standing)
        yield standing, found


async def get(sock: socket.socket, address: tuple[str, int], request: bytes = REQUEST) -> bytes:
    """The answer's first line; a reset raises."""
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, address)
    await loop.sock_sendall(sock, request)
    return (await loop.sock_recv(sock, 2**16)).partition(b"\r\n")[0]


def messages(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if text in record.getMessage()]


def test_more_clients_than_descriptors_are_all_answered_one_after_the_other(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.05)
        await scheme(scope, receive, send)

    async def work() -> None:
        async with narrow(clients=60, room=20, app=slow) as (standing, clients):
            asked = (get(sock, standing.address, ONE_SHOT) for sock in clients)
            assert set(await asyncio.gather(*asked)) == {OK}

    run(work())
    assert len(messages(caplog, "no file descriptor is left")) == 1


def test_what_is_served_already_goes_on_and_new_ones_wait_until_there_is_room(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eggcluster.worker.engines.accept_loop.SETTLED", 0.1)

    async def work() -> None:
        release = asyncio.Event()

        async def held(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await release.wait()
            await scheme(scope, receive, send)

        async with narrow(clients=30, room=10, app=held) as (standing, clients):
            asked = [asyncio.ensure_future(get(sock, standing.address)) for sock in clients]
            await until(lambda: not standing.engine.load.accepting and len(standing.server.running) >= 10)
            assert len(standing.server.running) <= 12
            assert not any(task.done() for task in asked)
            release.set()  # those that are served become idle, and make room
            assert set(await asyncio.gather(*asked)) == {OK}
            for sock in clients:
                sock.close()
            await until(lambda: messages(caplog, "file descriptors again"))
            assert standing.engine.load.accepting

    with caplog.at_level(logging.WARNING):
        run(work())
    assert len(messages(caplog, "no file descriptor is left")) == 1


def test_half_open_tls_handshakes_shut_no_client_out(
    run: Run, tls: tuple[ResolvedOptions, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may take as long as they like here while descriptors are left, and as long as a handshake takes then."""
    monkeypatch.setattr("eggcluster.http.relief.PATIENCE", 0.2)

    async def work() -> None:
        async with narrow(clients=600, room=40, options=replace(tls[0], header_timeout=0.0)) as (standing, clients):
            loop = asyncio.get_running_loop()
            waiting = [asyncio.ensure_future(loop.sock_connect(sock, standing.tls_address)) for sock in clients[1:]]
            await until(lambda: not standing.engine.load.accepting)
            assert await get(clients[0], standing.address) == OK
            for task in waiting:
                task.cancel()

    run(work())


def test_an_application_that_takes_all_descriptors_costs_no_client_its_request(run: Run) -> None:
    eaten: list[int] = []
    released = asyncio.Event()

    async def greedy(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        with contextlib.suppress(OSError):
            while not released.is_set():
                eaten.append(os.open(os.devnull, os.O_RDONLY))
        await released.wait()
        await scheme(scope, receive, send)

    async def work() -> None:
        async with narrow(clients=3, room=50, app=greedy) as (standing, (first, *others)):
            try:
                served = asyncio.ensure_future(get(first, standing.address))
                await until(lambda: eaten)
                waiting = asyncio.gather(*(get(sock, standing.address) for sock in others))
                await until(lambda: not standing.engine.load.accepting)
                assert not waiting.done()
                released.set()
                close(eaten)
                assert await served == OK
                assert await waiting == [OK, OK]
            finally:
                close(eaten)

    run(work())


# -- clients that keep others waiting -----------------------------------------------------------------------------


async def open_all(clients: list[socket.socket], address: tuple[str, int], data: bytes) -> None:
    loop = asyncio.get_running_loop()
    for sock in clients:
        await loop.sock_connect(sock, address)
        if data:
            await loop.sock_sendall(sock, data)


async def ended(sock: socket.socket) -> bytes:
    """All that a client gets until its connection ends."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 2**16), DEADLINE):
            received += piece
    return received


async def first_end(clients: list[socket.socket]) -> bytes:
    """What one of them got whose connection has ended: several began in one tick of the server's clock."""
    tasks = [asyncio.ensure_future(ended(sock)) for sock in clients]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return done.pop().result()


def test_idle_clients_make_room_the_oldest_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eggcluster.http.server.TICK", 3600.0)  # the clock stands still: no timeout

    async def work() -> None:
        async with narrow(clients=40, room=30) as (standing, clients):
            for sock in clients[:20]:
                assert await get(sock, standing.address) == OK
                standing.server.now += 1.0
            assert len(standing.server.connections) == 20
            assert await again(clients[0]) == OK  # no longer the oldest
            for sock in clients[20:]:
                standing.server.now += 1.0
                assert await get(sock, standing.address) == OK
            assert await ended(clients[1]) == b""
            for sock in (clients[0], clients[39]):
                assert await again(sock) == OK

    run(work())


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nA: "], ids=["silent", "half a head"])
def test_clients_that_do_not_finish_their_heads_shut_out_no_others(run: Run, data: bytes) -> None:
    async def work() -> None:
        async with narrow(clients=70, room=20) as (standing, clients):
            await open_all(clients[:60], standing.address, data)
            for sock in clients[60:]:
                assert await get(sock, standing.address, ONE_SHOT) == OK
            told = await first_end(clients[:60])
            assert told.startswith(b"HTTP/1.1 503 ") if data else told == b""

    run(work())


def test_half_open_tls_handshakes_shut_out_no_others(run: Run, tls: tuple[ResolvedOptions, ssl.SSLContext]) -> None:
    async def work() -> None:
        async with narrow(clients=70, room=20, options=tls[0]) as (standing, clients):
            await open_all(clients[:60], standing.tls_address, b"\x16\x03\x01")
            for sock in clients[60:]:
                assert await get(sock, standing.address, ONE_SHOT) == OK
            assert await first_end(clients[:60]) == b""

    run(work())


def test_bodies_that_trickle_make_room_and_served_requests_stay(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relief, "TRICKLE_TIME", 0.0)
    release = asyncio.Event()

    async def work() -> None:
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            if scope["method"] == "POST":
                while (await receive()).get("more_body"):
                    pass
            elif scope["path"] == "/held":
                await release.wait()
            await scheme(scope, receive, send)

        async with narrow(clients=30, room=20, app=app) as (standing, (held, *clients)):
            answer = asyncio.ensure_future(get(held, standing.address, b"GET /held HTTP/1.1\r\nhost: x\r\n\r\n"))
            head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nb"
            await open_all(clients[:28], standing.address, head)
            assert await get(clients[28], standing.address) == OK
            assert (await first_end(clients[:28])).startswith(b"HTTP/1.1 503 ")
            release.set()
            assert await answer == OK

    run(work())


# -- helpers --------------------------------------------------------------------------------------------------------


def close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


async def again(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, REQUEST)
    return (await loop.sock_recv(sock, 2**16)).partition(b"\r\n")[0]
