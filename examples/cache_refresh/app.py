"""Every worker answers from its own memory. It is told in three ways that its memory is out of date (see agent.py)."""

from typing import Any

from source import PriceFeed, load
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from eggcluster import Application


async def prices(request: Request) -> JSONResponse:
    return JSONResponse({"worker": app.worker_id, "prices": app.local.prices})


async def push(request: Request) -> Response:
    await feed.publish(request.path_params)
    return Response(status_code=204)


app = Application(
    Starlette(routes=[Route("/prices", prices), Route("/prices/{product}/{price:float}", push, methods=["PUT"])])
)
feed = app.cluster(PriceFeed).create()  # the same line as in the agent: here a follower


@app.messenger.on("refresh")  # 1. forced, and 2. polled
def refresh(why: str) -> None:
    app.local.prices = load()
    app.logger.info("cache refreshed: %s", why)


def pushed(news: dict[str, Any]) -> None:
    app.local.prices[news["product"]] = news["price"]


@app.on_start
def begin() -> None:
    refresh("start")
    feed.subscribe("egg", pushed)  # 3. pushed: at once, also to a worker that starts later
