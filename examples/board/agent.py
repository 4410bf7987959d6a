"""The board's measuring side; runs in the agent: one measurement a second, however many workers show it."""

import asyncio
import os
import time
from collections import deque
from typing import Any

import psutil

from eggcluster import Agent, MessengerError

agent = Agent()
history: deque[dict[str, Any]] = deque(maxlen=120)


class Traffic:
    """Network bytes per second since the last look; what the machine tells itself is counted apart."""

    def __init__(self) -> None:
        self.time, self.totals = self._look()

    def _look(self) -> tuple[float, dict[str, int]]:
        totals = {"received": 0, "sent": 0, "loopback": 0}
        for name, card in psutil.net_io_counters(pernic=True).items():
            if name.startswith("lo"):
                totals["loopback"] += card.bytes_sent
            else:
                totals["received"] += card.bytes_recv
                totals["sent"] += card.bytes_sent
        return time.monotonic(), totals

    def rates(self) -> dict[str, float]:
        then, before = self.time, self.totals
        self.time, self.totals = self._look()
        seconds = max(self.time - then, 0.001)
        # A card that was unplugged takes its total with it: never below zero.
        return {name: max(total - before[name], 0) / seconds for name, total in self.totals.items()}


traffic = Traffic()


@agent.on_start
async def prime() -> None:
    psutil.cpu_percent(percpu=True)  # the first answer is 0 by definition; the next ones compare with it


@agent.schedule(interval="1s")
async def measure() -> None:
    memory = psutil.virtual_memory()
    sample = {
        "time": time.time(),
        "cpu": psutil.cpu_percent(percpu=True),
        "memory": {"used": memory.total - memory.available, "total": memory.total},
        "load": list(psutil.getloadavg()),
        "network": traffic.rates(),
    }
    history.append(sample)
    agent.messenger.send_to_app("sample", sample)


@agent.messenger.on("history")
def tell(data: object) -> list[dict[str, Any]]:
    return list(history)


@agent.on_ready
async def recall() -> None:
    """A replaced agent has lost its memory; a worker still has the last two minutes."""
    try:
        older = await agent.messenger.request("history", to="app#1", timeout=2)
    except MessengerError as error:
        agent.logger.warning("starting without history, app#1 did not give it: %s", error)
        return
    fresh = [sample for sample in history if sample not in older]
    history.clear()
    history.extend([*older, *fresh])


@agent.messenger.on("crash")
async def crash(data: object) -> None:
    await asyncio.sleep(0.1)
    os._exit(1)
