"""The client manager for python-socketio, without a cluster: when it has dealt with a message."""

import asyncio
from typing import Any

import pytest

pytest.importorskip("socketio", reason="needs python-socketio")

from eggcluster.integrations.socketio import ClusterManager
from tests.waiting import until


def test_a_message_is_dealt_with_when_the_next_one_is_asked_for() -> None:
    """So a messenger whose handlers are all unfinished stops reading."""

    async def work() -> None:
        manager = ClusterManager()
        listening = manager._listen()
        first = asyncio.ensure_future(anext(listening))
        await until(lambda: manager._listens)
        handlers = [asyncio.ensure_future(manager._receive({"n": number})) for number in range(2)]
        assert await first == {"n": 0}
        assert not handlers[0].done()
        assert await anext(listening) == {"n": 1}
        await handlers[0]
        assert not handlers[1].done()
        await listening.aclose()
        assert not manager._listens

    asyncio.run(work())


def test_what_comes_before_the_first_client_and_after_the_end_is_not_kept() -> None:
    async def work() -> None:
        manager = ClusterManager()
        await manager._receive({"n": 1})
        listening = manager._listen()
        first = asyncio.ensure_future(anext(listening))
        await until(lambda: manager._listens)
        taken, waiting = (asyncio.ensure_future(manager._receive({"n": number})) for number in (2, 3))
        assert await first == {"n": 2}
        await listening.aclose()
        await asyncio.gather(taken, waiting)
        await manager._receive({"n": 4})

    asyncio.run(work())


@pytest.mark.parametrize("pid", [1, 2])
def test_each_process_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
    manager: Any = ClusterManager()
    monkeypatch.setattr("os.getpid", lambda: pid)
    assert manager.host_id.endswith(f"-{pid}")
