"""Listeners that were shut down listen again, at the same index of their group; nothing is left in any case."""

import asyncio
import contextlib
import logging
import os
import random
import socket
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eggcluster.kernel.unix_socket import connect_unix
from eggcluster.master.listening import listener_guard
from eggcluster.master.listening.binding import detect_ports
from eggcluster.master.listening.listener_guard import ListenerGuard
from eggcluster.master.listening.listeners import Listeners
from eggcluster.model.steering.steering_plan import SlotView
from eggcluster.options import ResolvedOptions
from tests.unit.conftest import Run
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux says when a listener was shut down")
Site = Callable[..., "contextlib.AbstractAsyncContextManager[tuple[Listeners, list[str]]]"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Guarded listeners, and the reloads that were asked for."""
    before = set(os.listdir("/dev/fd"))

    @contextlib.asynccontextmanager
    async def guarded(*, unready: int = 0, **options: Any) -> AsyncIterator[tuple[Listeners, list[str]]]:
        resolved = ResolvedOptions(**{"workers": 1, "port": None if {"uds", "fd"} & set(options) else 0, **options})
        reloads: list[str] = []
        listeners = detect_ports(resolved, str(tmp_path / "agent.sock"))

        def renew(since: float) -> bool:
            reloads.append("asked")
            return len(reloads) > unready

        guard = ListenerGuard(listeners, 16, renew)
        guard.start()
        try:
            yield listeners, reloads
        finally:
            guard.close()
            guard.close()
            listeners.close()

    yield guarded
    assert set(os.listdir("/dev/fd")) <= before, "a file descriptor is left"


def shut_down(sock: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    """As any process that shares it can do."""
    with sock.dup() as same:
        same.shutdown(how)


def listening(listeners: Listeners) -> bool:
    options = (socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return all(sock.getsockopt(*options) for sock, _ in listeners.everything())


def arrives_at(listeners: Listeners, slot: int) -> list[int]:
    """The slots at whose listeners a connection arrives while only this slot is open."""
    slots = range(1, len(listeners.endpoints[0].sockets) + 1)
    listeners.steer([SlotView(each, each == slot) for each in slots], 0)
    arrived = []
    with socket.create_connection(("127.0.0.1", listeners.port or 0)):
        for each in slots:
            with contextlib.suppress(BlockingIOError):
                listeners.endpoints[0].of_slot(each).setblocking(False)
                listeners.endpoints[0].of_slot(each).accept()[0].close()
                arrived.append(each)
    return arrived


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR])
@pytest.mark.parametrize("seed", range(5))
def test_whichever_are_shut_down_the_kernel_steers_to_the_right_ones(
    run: Run, site: Site, seed: int, how: socket.SocketKind
) -> None:
    dice = random.Random(seed)

    async def work() -> None:
        async with site(workers=6) as (listeners, _):
            assert listeners.by == "bpf"
            for _ in range(5):
                for slot in dice.sample(range(1, 7), dice.randint(1, 6)):
                    shut_down(listeners.endpoints[0].of_slot(slot), how)
                await until(lambda: listening(listeners))
                assert [arrives_at(listeners, slot) for slot in range(1, 7)] == [[slot] for slot in range(1, 7)]

    run(work())


def shut_each(fds: list[int]) -> None:
    """Shut the sockets down one after the other, as another process that holds them could; a moment between two."""
    for number in fds:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as sock:  # it may be shut down just now
            sock.shutdown(socket.SHUT_RDWR)
        end = time.perf_counter() + 0.0001
        while time.perf_counter() < end:
            pass


@pytest.mark.parametrize("seed", range(8))
def test_however_the_shutdowns_meet_the_mending_the_steering_is_right(run: Run, site: Site, seed: int) -> None:
    """A thread shuts listeners down while others begin again; some twice, so that they are shut from birth."""
    dice = random.Random(seed)

    async def work() -> None:
        async with site(workers=6) as (listeners, _):
            fds = [sock.fileno() for sock in dice.choices(listeners.endpoints[0].sockets, k=12)]
            await asyncio.to_thread(shut_each, fds)
            await until(lambda: listening(listeners))
            assert [arrives_at(listeners, slot) for slot in range(1, 7)] == [[slot] for slot in range(1, 7)]

    run(work())


def test_accepted_connections_are_open_also_where_the_listener_was_shut_down_twice(run: Run, site: Site) -> None:
    async def work() -> None:
        async with site() as (listeners, _):
            (sock,) = listeners.endpoints[0].sockets
            shut_down(sock)
            with pytest.raises(OSError, match="not connected"):
                shut_down(sock)
            await until(lambda: listening(listeners))
            with socket.create_connection(("127.0.0.1", listeners.port or 0)):
                sock.setblocking(True)
                sock.accept()[0].send(b"open")

    run(work())


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[None]:
    """From now on the list grows with each call of that method of the guard."""
    method = getattr(ListenerGuard, name)
    calls: list[None] = []

    def call(*arguments: Any) -> Any:
        calls.append(None)
        return method(*arguments)

    monkeypatch.setattr(ListenerGuard, name, call)
    return calls


def test_where_none_of_them_can_listen_there_is_one_next_try(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_guard, "RETRY", 0.001)

    async def work() -> None:
        async with site(workers=3) as (listeners, _):
            monkeypatch.setattr(ListenerGuard, "_listen_again", refuse)
            monkeypatch.setattr(ListenerGuard, "_bind", refuse)
            tries, timers = counted(monkeypatch, "_look_again"), counted(monkeypatch, "_later")
            for sock in listeners.endpoints[0].sockets:
                shut_down(sock)
            await until(lambda: len(tries) >= 20)
            assert len(timers) <= len(tries) + 1

    run(work())


def refuse(*given: object) -> None:
    raise OSError(98, "Address already in use")


def test_what_does_no_harm_changes_nothing(run: Run, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with site(workers=2) as (listeners, _):
            first, second = listeners.endpoints[0].sockets
            shut_down(first, socket.SHUT_WR)
            assert arrives_at(listeners, 1) == [1]
            shut_down(second)  # this is noticed, and only this
            await until(lambda: caplog.records)
            assert arrives_at(listeners, 1) == [1]

    run(work())
    assert len(caplog.records) == 1


def test_a_port_that_another_process_has_taken_meanwhile_is_tried_again(
    run: Run, site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_guard, "RETRY", 0.01)

    async def work() -> None:
        async with site() as (listeners, _):
            (sock,) = listeners.endpoints[0].sockets  # at a port that the kernel has chosen: the shutdown frees it
            shut_down(sock)
            with socket.create_server(("127.0.0.1", listeners.port or 0)):
                await until(lambda: len(caplog.records) == 2)
            await until(lambda: listening(listeners))
            assert sock.getsockname() == ("127.0.0.1", listeners.port)

    with caplog.at_level(logging.INFO):
        run(work())
    shut, refused, again = caplog.messages
    assert shut.startswith("a worker has shut down the listener at http://127.0.0.1:")
    assert refused.startswith("the listener at http://127.0.0.1:")
    assert "Address already in use" in refused
    assert again.endswith("listens again")


@pytest.mark.parametrize(("mode", "expected"), [(None, 0o666), (0o620, 0o620)])
def test_a_unix_socket_is_bound_anew_and_new_workers_are_asked_for(
    run: Run, site: Site, tmp_path: Path, mode: int | None, expected: int
) -> None:
    os.umask(umask := os.umask(0o022))
    path = str(tmp_path / "web.sock")

    async def work() -> None:
        async with site(uds=path, uds_mode=mode) as (listeners, reloads):
            shut_down(listeners.endpoints[0].sockets[0])
            await until(lambda: reloads)
            connect_unix(path).close()
            assert listeners.of_slot(1)[0].fd == listeners.endpoints[0].sockets[0].fileno()
            assert stat.S_IMODE(os.stat(path).st_mode) == (expected if mode else expected & ~umask)

    run(work())
    assert not os.path.exists(path)


def test_new_workers_are_asked_for_until_there_may_be_some(
    run: Run, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_guard, "RETRY", 0.01)

    async def work() -> None:
        async with site(uds=str(tmp_path / "web.sock"), unready=2) as (listeners, reloads):
            shut_down(listeners.endpoints[0].sockets[0])
            await until(lambda: len(reloads) == 3)

    run(work())


def test_a_new_unix_socket_is_watched_after_a_rest(
    run: Run, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application that shuts down each one must not have the workers replaced without a pause."""
    monkeypatch.setattr(listener_guard, "WATCH_DELAY", 0.01)

    async def work() -> None:
        async with site(uds=str(tmp_path / "web.sock")) as (listeners, reloads):
            for count in range(1, 4):
                shut_down(listeners.endpoints[0].sockets[0])
                await until(lambda count=count: len(reloads) == count)  # type: ignore[misc]

    run(work())


def test_a_unix_socket_that_was_given_cannot_be_renewed_and_is_said(
    run: Run, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        with socket.socket(socket.AF_UNIX) as given:
            given.bind(str(tmp_path / "given.sock"))
            async with site(fd=given.fileno()) as (listeners, reloads):
                shut_down(listeners.endpoints[0].sockets[0])
                await until(lambda: len(caplog.records) == 2)
                assert not reloads

    run(work())
    assert caplog.messages[1].endswith("start the cluster again")


def test_where_it_cannot_watch_the_listeners_are_there(
    run: Run, site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(listener_guard, "ShutdownWatch", refuse)

    async def work() -> None:
        async with site() as (listeners, _):
            assert listening(listeners)

    run(work())
    assert caplog.messages == [
        "the listeners cannot be watched ([Errno 24] Too many open files): if a worker shuts one down, it stays so"
    ]
