"""A worker whose WSGI threads are all busy: it says that it is full, and leaves shared listeners to other workers."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from eggcluster.kernel.tcp_info import waiting_connections
from eggcluster.options import ResolvedOptions
from tests.unit.conftest import Run
from tests.unit.http.wire import turns
from tests.unit.test_door import OK, get
from tests.unit.test_http_engine import Standing
from tests.waiting import DEADLINE, until


class Busy:
    """A WSGI application each of whose requests takes a thread until `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        assert self.go.wait(DEADLINE)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]


@pytest.mark.parametrize("shared", [True, False], ids=["shared listener", "its own"])
def test_a_full_worker_says_so_and_accepts_only_what_no_other_one_can(run: Run, shared: bool) -> None:
    async def work() -> None:
        app = Busy()
        options = ResolvedOptions(threads=2, workers=2 if shared else 1)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.socket()) for _ in range(4)]
            for client in clients:
                client.setblocking(False)
            async with Standing(options, app, "wsgi") as standing:
                asked = [asyncio.ensure_future(get(client, standing.address)) for client in clients[:3]]
                await until(lambda: standing.engine.load.full, "it is full")
                asked.append(asyncio.ensure_future(get(clients[3], standing.address)))
                if shared:
                    (listener,) = (sock for sock, _ in standing.engine._listeners)
                    await until(lambda: waiting_connections(listener) == 1, "the connection waits")
                    await turns()
                    assert standing.engine.load.accepted == 3
                else:
                    await until(lambda: standing.engine.load.accepted == 4, "the connection is accepted")
                assert standing.engine.load.accepting
                app.go.set()
                assert set(await asyncio.gather(*asked)) == {OK}
                await until(lambda: not standing.engine.load.full, "it is free again")

    run(work())
