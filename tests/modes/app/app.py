"""The application of all modes; runs in the app workers."""

# ruff: noqa: F401  # what a test says is executed here, with these names

import asyncio
import os
import sys
import threading
import time
from typing import Any

import both
from registry import Registry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from eggcluster import Application, messenger

imported_by = threading.get_native_id()
visitors: list[int] = []


def whoami() -> dict[str, Any]:
    return {"slot": app.slot, "worker_id": app.worker_id, "generation": app.generation, "pid": os.getpid()}


async def answer(request: Request) -> JSONResponse:
    return JSONResponse(whoami())


def plain(request: Request) -> JSONResponse:
    """A sync endpoint: in a thread of the worker's pool."""
    app.messenger.send_to("app", "note", f"plain {app.slot}")
    return JSONResponse(whoami() | {"thread": threading.get_native_id()})


async def obey(request: Request) -> JSONResponse:
    source = (await request.body()).decode()
    return JSONResponse(whoami() | {"result": await both.run(source, globals())})


async def stream(request: Request) -> StreamingResponse:
    async def parts() -> Any:
        for number in range(8):
            yield f"{number},"
            await asyncio.sleep(0.1)
        yield "end"

    return StreamingResponse(parts())


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(f"{text} from {app.slot}")


api = Starlette(
    routes=[
        Route("/", answer),
        Route("/plain", plain),
        Route("/run", obey, methods=["POST"]),
        Route("/stream", stream),
        WebSocketRoute("/ws", echo),
    ]
)
app = Application(api)
shared = app.shared
registry = app.cluster(Registry).create(url="here")
registry.subscribe("early", lambda news: app.local.news.append(news))


@shared.on_change("price")
def changed(change: Any) -> None:
    app.local.changes.append(change.value)


@app.messenger.on("run")
async def run(data: list[Any]) -> Any:
    return await both.run(data[0], globals(), data[1])


@app.messenger.on("note")
def note(data: object) -> None:
    app.local.notes.append(data)


@app.on_start
async def start() -> None:
    app.local.notes = []
    app.local.news = []
    app.local.changes = []
    app.local.ticks = []
    visitors.append(app.slot)
    slot = app.slot
    app.messenger.on("registered at run time", lambda data: slot)
    app.messenger.on("slow", asyncio.sleep)
    await registry.subscribe("late", app.local.news.append)
    both.mark("births", f"app#{app.slot}", app.generation, app.worker_id)


@app.on_ready
def ready() -> None:
    app.local.ready = app.slot


@app.on_server
def served(server: object) -> None:
    app.local.server = app.slot


@app.on_close
async def closed() -> None:
    both.mark("closing", f"app#{app.slot}", app.generation)
    app.messenger.send_to_agent("farewell", app.slot)


@app.background
async def keep() -> None:
    app.local.background = app.slot
    try:
        await asyncio.sleep(1000)
    finally:
        both.mark("closing", f"background#{app.slot}", app.generation)


@app.background
def keep_plainly() -> None:
    app.local.plain_background = app.slot
    app.closing.wait()


@app.schedule(interval="200ms", type="all")
async def everywhere() -> None:
    app.local.ticks.append("all")


@app.schedule(interval="200ms")
def somewhere() -> None:
    app.local.ticks.append("worker")
