"""A worker without file descriptors: it serves what it has, lets the others wait, and resets no connection."""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from eggcluster.options import ResolvedOptions
from tests.unit.conftest import Run
from tests.unit.serving import run_server  # noqa: F401
from tests.unit.test_http_engine import REQUEST, Receive, Send, Standing, scheme
from tests.waiting import until

OK = b"HTTP/1.1 200 OK"
Narrow = tuple[Standing, list[socket.socket]]
ONE_SHOT = REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """So many descriptors are left to this process, and the reserve. The free numbers between others count, too."""
    gc.collect()  # what earlier tests have left is closed now, and not while the limit holds
    taken = {int(number) for number in os.listdir("/dev/fd") if os.path.lexists(f"/dev/fd/{number}")}
    wanted = free = 0
    while free < count:
        free += wanted not in taken
        wanted += 1
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted + wanted // 15 + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


@contextlib.asynccontextmanager
async def narrow(
    clients: int, room: int, app: Callable[..., Any] = scheme, options: ResolvedOptions | None = None
) -> AsyncIterator[Narrow]:
    """An engine with room for so many connections, and sockets for its clients, which are in the same process."""
    async with contextlib.AsyncExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(clients)]
        for sock in found:
            sock.setblocking(False)
        standing = Standing(options, app=app)
        stack.enter_context(room_for(room))
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
        async with narrow(clients=30, room=10) as (standing, clients):
            asked = {asyncio.ensure_future(get(sock, standing.address)): sock for sock in clients}
            await until(lambda: not standing.engine.load.accepting)
            served = [sock for task, sock in asked.items() if task.done()]
            waiting = [task for task in asked if not task.done()]
            assert len(waiting) >= 18
            assert await again(served[0]) == OK
            for sock in served:  # they go: only now there is room for others
                sock.close()
            await until(lambda: any(task.done() for task in waiting))
            for task in waiting:
                task.cancel()
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
    monkeypatch.setattr("eggcluster.http.intake.HANDSHAKE", 0.2)

    async def work() -> None:
        async with narrow(clients=600, room=40, options=replace(tls[0], header_timeout=0.0)) as (standing, clients):
            loop = asyncio.get_running_loop()
            waiting = [asyncio.ensure_future(loop.sock_connect(sock, standing.tls_address)) for sock in clients[1:]]
            await until(lambda: not standing.engine.load.accepting)
            assert await get(clients[0], standing.address) == OK
            for task in waiting:
                task.cancel()

    run(work())


def test_an_application_that_takes_all_descriptors_costs_no_client_its_connection(run: Run) -> None:
    eaten: list[int] = []

    async def greedy(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        with contextlib.suppress(OSError):
            while True:
                eaten.append(os.open(os.devnull, os.O_RDONLY))
        await scheme(scope, receive, send)

    async def work() -> None:
        async with narrow(clients=3, room=50, app=greedy) as (standing, (first, *others)):
            try:
                assert await get(first, standing.address) == OK
                asked = asyncio.gather(*(get(sock, standing.address) for sock in others))
                await until(lambda: not standing.engine.load.accepting)
                assert await again(first) == OK
                assert not asked.done()
                close(eaten)
                assert await asked == [OK, OK]
            finally:
                close(eaten)

    run(work())


def close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


async def again(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, REQUEST)
    return (await loop.sock_recv(sock, 2**16)).partition(b"\r\n")[0]
