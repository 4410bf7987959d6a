"""An app worker: asks and listens, both ways, and tells the benchmark what came of it."""

import asyncio
import os
import time
from importlib import import_module
from typing import Any

import msgspec
from feed import Feed
from stopwatch import at_once, percentiles, round_trips

from eggcluster import Application


async def api(scope: Any, receive: Any, send: Any) -> None:
    """Nobody asks over HTTP."""


redis = import_module("redis.asyncio")
app = Application(api)
feed = app.cluster(Feed).create()
shared = app.shared
client = redis.Redis(unix_socket_path=os.environ["BENCH_REDIS"])
DATA = bytes(16)
CALLS = {
    "invoke": lambda: feed.echo(DATA),
    "messenger request": lambda: app.messenger.request("echo", DATA, to="agent"),
    "Redis ECHO": lambda: client.echo(DATA),
    "shared.increment": lambda: shared.increment("n"),
    "Redis INCR": lambda: client.incr("n"),
    "Redis GET": lambda: client.get("n"),
}
late: list[int] = []
first = last = count = 0


@app.messenger.on("round trips")
async def trips(order: tuple[str, float]) -> dict[str, float]:
    name, seconds = order
    result: dict[str, float] = await round_trips(CALLS[name], seconds)
    return result | {"per second": await at_once(CALLS[name], seconds, 32)}


@app.messenger.on("reads")
async def reads(seconds: float) -> dict[str, float]:
    """Nanoseconds of one `shared["n"]`: the loop around it is too little to take off."""
    await shared.set("n", 1)
    number, began = 200_000, time.perf_counter_ns()
    for _ in range(number):
        shared["n"]
    return {"p50": (time.perf_counter_ns() - began) / number / 1000}


@app.messenger.on("listen")
def listen(data: None) -> None:
    global count, first, last
    late.clear()
    count = first = last = 0


@app.messenger.on("heard")
def heard(data: None) -> dict[str, Any]:
    return {"count": count, "first": first, "last": last, **(percentiles(late) if late else {})}


def hear(value: list[Any]) -> None:
    global count, first, last
    last = time.monotonic_ns()
    first = first or value[1]
    late.append(last - value[1])
    count += 1


async def hear_redis() -> None:
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe("feed")
    async for message in pubsub.listen():
        hear(msgspec.msgpack.decode(message["data"]))


@app.messenger.on("push")
async def push(order: tuple[int, int, float]) -> None:
    await feed.burst(*order)


@app.on_start
async def subscribe() -> None:
    feed.subscribe("feed", hear)
    app.background_task = asyncio.create_task(hear_redis())  # type: ignore[attr-defined]  # held, or it is collected
