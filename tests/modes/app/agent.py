"""The agent of all modes."""

# ruff: noqa: F401  # what a test says is executed here, with these names

import asyncio
import os
import sys
import threading
import time
from typing import Any

import both
from registry import Registry

from eggcluster import Agent, messenger

agent = Agent()
shared = agent.shared
registry = agent.cluster(Registry).create(url="here")


@agent.messenger.on("run")
async def run(data: list[Any]) -> Any:
    return await both.run(data[0], globals(), data[1])


@agent.messenger.on("note")
def note(data: object) -> None:
    agent.local.notes.append(data)


@agent.messenger.on("farewell")
def farewell(slot: int) -> None:
    both.mark("closing", f"farewell#{slot}")


@agent.on_start
async def start() -> None:
    agent.local.notes = []
    agent.local.ticks = []
    agent.messenger.on("registered at run time", lambda data: 0)
    agent.messenger.on("slow", asyncio.sleep)
    both.mark("births", "agent", agent.generation, agent.worker_id)


@agent.on_close
async def closed() -> None:
    both.mark("closing", "agent", agent.generation)


@agent.schedule(interval="200ms")
async def here() -> None:
    agent.local.ticks.append(agent.worker_id)


@agent.background
async def keep() -> None:
    agent.local.background = True
    await asyncio.sleep(1000)
