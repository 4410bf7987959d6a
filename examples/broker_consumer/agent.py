"""One consumer for the whole cluster: it takes orders from a broker, here a Redis list, and has a worker do each."""

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


@agent.background  # started again when it raises: where the broker is not there, or the worker dies meanwhile
async def consume() -> None:
    await agent.local.ready.wait()
    async with redis.Redis.from_url(URL, decode_responses=True) as broker:
        while True:
            # What is being done waits in a list of its own: whoever is interrupted, or succeeds him, begins with it.
            order = await broker.lindex("orders:doing", 0) or await broker.blmove("orders", "orders:doing", 1)
            if order is not None:
                await do(str(order))
                await broker.lpop("orders:doing")


async def do(order: str) -> None:
    try:
        worker = await agent.messenger.request("order", order, to="app", timeout=30)
    except RemoteError as error:  # the worker has said no, and would say so again
        agent.logger.warning("order %s cannot be done: %s", order, error)
        await shared.increment("refused")
    else:
        agent.logger.info("order %s was done by worker %d", order, worker)
        await shared.increment("done")
