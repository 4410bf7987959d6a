"""Streams without an end, as server-sent events are. Runs in the app workers.

One kind ends when the worker begins to close, one when its client has left, one never: it is deaf.
"""

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count

from eggcluster import Application
from tests.chaos.served.said import said
from tests.chaos.served.stage import Receive, Send, headers

PAUSE = 0.1  # seconds between two lines


class Endless:
    """Serves WAY/PORT/NONCE: numbered lines with the nonce, for the client at that port."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._ways: dict[str, Callable[[str, Receive, Send], Awaitable[None]]] = {
            "watching": self._watch,
            "listening": self._listen,
            "deaf": self._talk,
        }

    async def serve(self, given: str, receive: Receive, send: Send) -> None:
        way, port, nonce = given.split("/")
        await send({"type": "http.response.start", "status": 200, "headers": headers()})
        turns = deque([time.monotonic()], maxlen=2)
        tasks = [asyncio.create_task(self._note_closing(way, int(port), turns)), asyncio.create_task(take_turns(turns))]
        try:
            await self._ways[way](nonce, receive, send)
        finally:
            for task in tasks:
                task.cancel()

    async def _watch(self, nonce: str, receive: Receive, send: Send) -> None:
        for number in count():
            if self._app.closing.is_set():
                break
            await send_line(nonce, number, send)
        await send({"type": "http.response.body", "body": b""})

    async def _listen(self, nonce: str, receive: Receive, send: Send) -> None:
        talk = asyncio.create_task(self._talk(nonce, receive, send))
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            talk.cancel()
            said.say(f"left {nonce} {time.monotonic():.3f}")

    async def _talk(self, nonce: str, receive: Receive, send: Send) -> None:
        for number in count():
            await send_line(nonce, number, send)

    async def _note_closing(self, way: str, port: int, turns: deque[float]) -> None:
        """Note in the ledger that the worker closes: its drain may come to an end now, and cut this stream.

        The order may have come while the event loop was blocked: the instant is that of the loop's turn before.
        """
        await self._app.closing
        if way != "watching":
            held = {"fault": "closing", "pid": os.getpid(), "at": turns[0], "ports": [port]}
            with open(os.environ["EGG_CHAOS_LEDGER"], "ab", buffering=0) as ledger:  # noqa: ASYNC230
                ledger.write(json.dumps(held).encode() + b"\n")


async def take_turns(turns: deque[float]) -> None:
    """Note the event loop's last two turns, more or less."""
    while True:
        await asyncio.sleep(PAUSE)
        turns.append(time.monotonic())


async def send_line(nonce: str, number: int, send: Send) -> None:
    await send({"type": "http.response.body", "body": f"{nonce} {number}\n".encode(), "more_body": True})
    await asyncio.sleep(PAUSE)
