"""Floods and attacks on the wires: what waits in the master is bounded, and misbehaving workers leave nothing."""

import asyncio
import contextlib
import random
import socket

import psutil
import pytest

from eggcluster.errors import FrameError
from eggcluster.model.lives.worker import AppWorker
from eggcluster.model.messages.begun import Begun
from eggcluster.model.messages.message import FrameKind
from tests.unit.conftest import Run
from tests.unit.wires import Child, Wires, until

MIB = 1024 * 1024


@pytest.mark.parametrize(("size", "count"), [(1000, 4000), (4 * MIB, 3)])
def test_what_many_send_at_once_waits_in_them_and_all_arrives(run: Run, size: int, count: int) -> None:
    """The queue holds 2 MiB, which each sender alone would fill."""

    async def work() -> None:
        wires = Wires(slots=4, max_queue_bytes=2 * MIB)
        agent = await wires.agent()
        senders = [await wires.app(slot) for slot in range(1, 5)]
        peak = 0

        async def flood(child: Child) -> None:
            for number in range(count):
                child.messenger.send_to_agent("note", [number, bytes(size)])
                if number % 100 == 99:
                    await child.messenger.drain()

        floods = asyncio.gather(*map(flood, senders))
        while len(agent.got) < 4 * count and not wires.switchboard.dropped.total:
            peak = max(peak, wires.link(agent).queued_bytes)
            await asyncio.sleep(0)
        await floods
        assert wires.switchboard.dropped.total == 0
        assert sum(number for number, _ in agent.got) == 4 * sum(range(count))
        assert peak < 2 * MIB + 4 * max(size, 256 * 1024) + 1024 * 1024  # the queue, and one read of each sender

    run(work())


def test_a_thousand_workers_that_write_garbage_are_cut_off_and_leave_nothing(run: Run) -> None:
    """Against the switchboard itself; tests/cluster/test_messenger_load.py does it with real workers."""
    rolls = random.Random(2026)

    async def work() -> None:
        wires = Wires(slots=2)
        agent, other = await wires.agent(), await wires.app(2)
        process = psutil.Process()
        fds, memory = [], []
        for number in range(1, 1001):
            worker = AppWorker(1, number, 0, 60)
            worker.worker_id = 1000 + number
            ours, theirs = socket.socketpair()
            link = await wires.switchboard.connect(ours, worker)
            wires.switchboard.go_live(worker)
            with theirs:
                theirs.setblocking(False)
                with contextlib.suppress(BlockingIOError, BrokenPipeError):
                    theirs.send(rolls.randbytes(rolls.randrange(24, 4096)))
                    if number % 2:
                        theirs.shutdown(socket.SHUT_WR)  # half closed
                    else:
                        theirs.send(b"\xff" * 24)
                await until(link.gone.is_set)
            wires.switchboard.disconnect(worker, Begun())
            other.messenger.send_to_agent("note", number)
            if number % 100 == 0:
                await until(lambda n=number: len(agent.got) == n)  # type: ignore[misc]
                fds.append(process.num_fds())
                memory.append(process.memory_info().rss)
        assert agent.got == list(range(1, 1001))
        assert len(wires.broken) == 1000
        assert all(error is None or isinstance(error, FrameError) for _, error in wires.broken)
        assert sum(isinstance(error, FrameError) for _, error in wires.broken) > 900
        assert fds[-1] <= fds[0] + 1, fds
        assert memory[-1] - memory[0] < 64 * MIB, memory  # each reader kept would be 256 KiB more, 225 MiB in all
        assert not [frame for frame in agent.frames if frame.kind is not FrameKind.MESSAGE]

    run(work())


def test_large_answers_that_come_together_all_reach_the_asker(run: Run) -> None:
    async def work() -> None:
        wires = Wires(slots=4, max_queue_bytes=2 * MIB)
        agent = await wires.agent()
        for slot in range(1, 5):
            (await wires.app(slot)).messenger.on("large", lambda _: bytes(4 * MIB))
        asked = (agent.messenger.request("large", to=f"app#{slot}", timeout=2) for slot in range(1, 5))
        assert [len(answer) for answer in await asyncio.gather(*asked)] == [4 * MIB] * 4

    run(work())
