"""The agent: leads the feed, and publishes to Redis in the same bursts."""

import asyncio
import os
import time
from importlib import import_module

import msgspec
from feed import Feed

from eggcluster import Agent

redis = import_module("redis.asyncio")  # not by statement: mypy has to pass where it is not installed
agent = Agent()
feed = agent.cluster(Feed).create()
shared = agent.shared


@agent.messenger.on("echo")
def echo(data: bytes) -> bytes:
    return data


@agent.messenger.on("redis burst")
async def burst(order: tuple[int, int, float]) -> None:
    count, size, pause = order
    payload, client = bytes(size), redis.Redis(unix_socket_path=os.environ["BENCH_REDIS"])
    batch = 1 if pause else 50  # a pipeline's: what the feed does between two turns of the loop
    for number in range(0, count, batch):
        pipeline = client.pipeline(transaction=False)
        for each in range(number, min(number + batch, count)):
            pipeline.publish("feed", msgspec.msgpack.encode([each, time.monotonic_ns(), payload]))
        await pipeline.execute()
        await asyncio.sleep(pause)
    await client.aclose()
