"""The board's web side; runs in each app worker, which shows what the agent sends to its own pages."""

import asyncio
import html
import json
import re
import sys
from collections import deque
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from eggcluster import Application, MessengerError

PAGE = Path(__file__).with_name("page")
INDEX = (PAGE / "index.html").read_text()


async def index(request: Request) -> HTMLResponse:
    return HTMLResponse(INDEX.replace("SERVED_BY", html.escape(json.dumps(served_by()))))


async def now(request: Request) -> JSONResponse:
    samples = app.local.samples
    return JSONResponse({"sample": samples[-1] if samples else None, "served_by": served_by()})


async def whole_history(request: Request) -> JSONResponse:
    return JSONResponse({"history": list(app.local.samples), "served_by": served_by()})


async def cluster(request: Request) -> JSONResponse:
    try:
        status = await app.messenger.request("status", to="master", timeout=2)
    except MessengerError as error:
        raise HTTPException(503, f"the master did not answer: {error}") from error
    return JSONResponse({"cluster": status, "served_by": served_by()})


async def make_crash(request: Request) -> JSONResponse:
    """Make the agent or a worker exit with an error; by default the worker that answers."""
    victim = request.query_params.get("who") or f"app#{app.slot}"
    if not re.fullmatch(r"agent|app#\d+", victim):
        raise HTTPException(422, 'who: "agent", or "app#1" for the worker of slot 1')
    app.messenger.send_to(victim, "crash", None)
    return JSONResponse({"crashing": victim})


async def live(socket: WebSocket) -> None:
    await socket.accept()
    app.local.sockets.add(socket)
    try:
        await socket.send_json({"served_by": served_by(), "history": list(app.local.samples)})
        async for _ in socket.iter_text():  # the page sends nothing: this ends when the page is closed
            pass
    finally:
        app.local.sockets.discard(socket)


api = Starlette(
    routes=[
        Route("/", index),
        Route("/api/now", now),
        Route("/api/history", whole_history),
        Route("/api/cluster", cluster),
        Route("/api/crash", make_crash, methods=["POST"]),
        WebSocketRoute("/ws", live),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]
)
app = Application(api)


def served_by() -> dict[str, Any]:
    return {"slot": app.slot, "worker_id": app.worker_id, "generation": app.generation}


@app.on_start
async def remember() -> None:
    """A new worker's memory is empty; the agent has the last two minutes. It starts without them too."""
    app.local.sockets = set()
    app.local.samples = deque(maxlen=120)
    try:
        app.local.samples.extend(await app.messenger.request("history", to="agent", timeout=2))
    except MessengerError as error:
        app.logger.warning("starting without history, the agent did not give it: %s", error)


@app.messenger.on("sample")
async def show(sample: dict[str, Any]) -> None:
    if sample in app.local.samples:  # sent while this worker was booting, so it came with the history too
        return
    app.local.samples.append(sample)
    await asyncio.gather(*(push(each, {"sample": sample}) for each in app.local.sockets), return_exceptions=True)


async def push(socket: WebSocket, message: dict[str, Any]) -> None:
    async with asyncio.timeout(0.5):  # a page that does not read misses a sample; the others do not wait for it
        await socket.send_json(message)


@app.messenger.on("history")
def tell(data: object) -> list[dict[str, Any]]:
    return list(app.local.samples)


@app.messenger.on("crash")
def crash(data: object) -> None:
    asyncio.get_running_loop().call_later(0.1, sys.exit, 1)  # the answer to the button leaves first
