"""Workers carry out what the agent takes from the broker, and read the number of orders done from their own memory."""

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from eggcluster import Application


async def orders(request: Request) -> JSONResponse:
    return JSONResponse({"worker": app.worker_id, **shared})


app = Application(Starlette(routes=[Route("/orders", orders)]))
shared = app.shared


@app.messenger.on("order")
async def order(text: str) -> int:
    await asyncio.sleep(0.01)  # the work itself
    if text == "the moon":
        raise ValueError("we do not sell that")
    return app.worker_id
