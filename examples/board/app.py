"""The board's web side; runs in each app worker, which shows what the agent sends to its own pages."""

import asyncio
import html
import json
import os
from collections import deque
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, WebSocket
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from eggcluster import Application, MessengerError

PAGE = Path(__file__).with_name("page")
INDEX = (PAGE / "index.html").read_text()

api = FastAPI(title="Eggcluster board")
api.mount("/page", StaticFiles(directory=PAGE))
app = Application(api)

samples: deque[dict[str, Any]] = deque(maxlen=120)
sockets: set[WebSocket] = set()


def served_by() -> dict[str, Any]:
    return {"slot": app.slot, "worker_id": app.worker_id, "generation": app.generation}


@app.on_start
async def remember() -> None:
    """A new worker's memory is empty; the agent has the last two minutes. It starts without them too."""
    try:
        samples.extend(await app.messenger.request("history", to="agent", timeout=2))
    except MessengerError as error:
        app.logger.warning("starting without history, the agent did not give it: %s", error)


@app.messenger.on("sample")
async def show(sample: dict[str, Any]) -> None:
    if sample in samples:  # sent while this worker was booting, so it came with the history too
        return
    samples.append(sample)
    await asyncio.gather(*(push(socket, {"sample": sample}) for socket in sockets), return_exceptions=True)


async def push(socket: WebSocket, message: dict[str, Any]) -> None:
    async with asyncio.timeout(0.5):  # a page that does not read misses a sample; no other waits for it
        await socket.send_json(message)


@app.messenger.on("history")
def tell(data: object) -> list[dict[str, Any]]:
    return list(samples)


@app.messenger.on("crash")
async def crash(data: object) -> None:
    await asyncio.sleep(0.1)  # the answer to the button leaves first
    os._exit(1)


@api.get("/", response_class=HTMLResponse)
async def index() -> str:
    return INDEX.replace("SERVED_BY", html.escape(json.dumps(served_by())))


@api.get("/api/now")
async def now() -> dict[str, Any]:
    return {"sample": samples[-1] if samples else None, "served_by": served_by()}


@api.get("/api/history")
async def whole_history() -> dict[str, Any]:
    return {"history": list(samples), "served_by": served_by()}


@api.get("/api/cluster")
async def cluster() -> dict[str, Any]:
    try:
        status = await app.messenger.request("status", to="master", timeout=2)
    except MessengerError as error:
        raise HTTPException(503, f"the master did not answer: {error}") from error
    return {"cluster": status, "served_by": served_by()}


@api.post("/api/crash")
async def make_crash(who: Annotated[str, Query(pattern=r"^(agent|app#\d+)?$")] = "") -> dict[str, str]:
    """Make the agent or a worker, by default the one that answers, exit with an error."""
    if app.worker_id != os.getpid():
        raise HTTPException(409, "the workers are threads here: one cannot exit without the others")
    victim = who or f"app#{app.slot}"
    app.messenger.send_to(victim, "crash", None)
    return {"crashing": victim}


@api.websocket("/ws")
async def live(socket: WebSocket) -> None:
    await socket.accept()
    sockets.add(socket)
    try:
        await socket.send_json({"served_by": served_by(), "history": list(samples)})
        async for _ in socket.iter_text():  # the page never speaks: this ends when it leaves
            pass
    finally:
        sockets.discard(socket)
