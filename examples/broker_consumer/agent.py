"""One consumer for the whole cluster: it takes orders from a broker, here a Redis list, and gives each to a worker."""

import asyncio
import os

import redis.asyncio as redis

from eggcluster import Agent, RemoteError

URL = os.environ.get("BROKER", "redis://localhost")

agent = Agent()
shared = agent.shared


@agent.on_start
def begin() -> None:
    agent.local.ready = asyncio.Event()
    agent.on_ready(agent.local.ready.set)


@agent.background  # restarted when it raises: when the broker is not there, or the worker dies meanwhile
async def consume() -> None:
    await agent.local.ready.wait()
    async with redis.Redis.from_url(URL, decode_responses=True) as broker:
        while True:
            # An order under way is in a list of its own: after an interruption this agent, or the next, begins with it.
            order = await broker.lindex("orders:doing", 0) or await broker.blmove("orders", "orders:doing", 1)
            if order is not None:
                await do(str(order))
                await broker.lpop("orders:doing")


async def do(order: str) -> None:
    try:
        worker = await agent.messenger.request("order", order, to="app", timeout=30)
    except RemoteError as error:  # the worker refused, and would refuse again
        agent.logger.warning("order %s cannot be done: %s", order, error)
        await shared.increment("refused")
    else:
        agent.logger.info("order %s was done by worker %d", order, worker)
        await shared.increment("done")
