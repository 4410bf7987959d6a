"""Answers hello world; /die ends its worker, /flood sends messages to the agent. Runs in the app workers."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from eggcluster import Application, messenger

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
BATCH = 200  # messages between two waits for room


async def asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    body = b"hello world"
    if scope["path"] == "/die":
        asyncio.get_running_loop().call_later(0.05, sys.exit, 1)
    elif scope["path"] == "/flood":
        body = json.dumps(await flood(int(scope["query_string"]))).encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def flood(count: int) -> float:
    """Seconds until the agent has handled so many messages of 16 bytes."""
    began = time.perf_counter()
    for sent in range(count):
        messenger.send_to_agent("flood", b"sixteen bytes...")
        if sent % BATCH == 0:
            await messenger.drain()
    await messenger.request("flooded", timeout=60)  # it comes behind them
    return time.perf_counter() - began


app = Application(asgi)
