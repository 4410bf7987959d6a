"""Every worker answers from its own memory, and learns in three ways that it is out of date (see agent.py)."""

from typing import Any

from fastapi import FastAPI
from source import PriceFeed, load

from eggcluster import Application

api = FastAPI()
app = Application(api)
feed = app.cluster(PriceFeed).create()  # the same line as in the agent: here a follower
cache: dict[str, Any] = {}


def refresh(why: str) -> None:
    prices = load()
    cache.clear()
    cache.update(prices)
    app.logger.info("cache refreshed: %s", why)


def pushed(news: dict[str, Any]) -> None:
    cache[news["product"]] = news["price"]


app.on_start(lambda: refresh("start"))
app.messenger.on("refresh", refresh)  # 1. forced, and 2. asked
feed.subscribe("egg", pushed)  # 3. pushed: at once, also to a worker that comes later


@api.get("/prices")
async def prices() -> dict[str, Any]:
    return {"worker": app.worker_id, "prices": cache}


@api.put("/prices/{product}/{price}")
async def push(product: str, price: float) -> None:
    await feed.publish({"product": product, "price": price})
