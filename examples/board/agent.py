"""The board's measuring side; runs in the agent: one measurement a second, for any number of workers that show it."""

import asyncio
import sys
from collections import deque
from typing import Any

from machine import Machine

from eggcluster import Agent, MessengerError

agent = Agent()


@agent.on_start
def begin() -> None:
    agent.local.machine = Machine()
    agent.local.history = deque(maxlen=120)


@agent.schedule(interval="1s")
async def measure() -> None:
    sample = agent.local.machine.measure()
    agent.local.history.append(sample)
    agent.messenger.send_to_app("sample", sample)


@agent.messenger.on("history")
def tell(data: object) -> list[dict[str, Any]]:
    return list(agent.local.history)


@agent.on_ready
async def recall() -> None:
    """A replaced agent has lost its memory; a worker still has the last two minutes."""
    try:
        older = await agent.messenger.request("history", to="app#1", timeout=2)
    except MessengerError as error:
        agent.logger.warning("starting without history, app#1 did not give it: %s", error)
        return
    history = agent.local.history
    fresh = [sample for sample in history if sample not in older]
    history.clear()
    history.extend([*older, *fresh])


@agent.messenger.on("crash")
def crash(data: object) -> None:
    asyncio.get_running_loop().call_later(0.1, sys.exit, 1)
