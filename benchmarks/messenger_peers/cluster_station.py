"""Owns both ends of eggcluster's measurements: the application and the agent. Runs in a real cluster.

Copied into an empty base directory and started with `eggcluster start cluster_station:app`. Each worker has one
`Station`; a GET with the task in its query string makes it measure, and answers with JSON.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from eggcluster import Agent, Application, Messenger, MessengerBusy

LOAD_TICK = 0.001  # s
LOAD_START = 0.05  # s
TASK_TIMEOUT = 60.0  # s


class Station:
    """Sends and counts. An app's messages go to the agent, the agent's to all apps: `send` without a receiver."""

    def __init__(self, messenger: Messenger, my_id: Callable[[], int | str]) -> None:
        self.messenger = messenger
        self._my_id = my_id
        self._counted = 0
        self._reports: asyncio.Queue[int] = asyncio.Queue()
        self._laps: list[float] = []
        self._lap_began = self._ping_deadline = 0.0
        self._pinged: asyncio.Future[None] | None = None
        self._load: asyncio.Task[None] | None = None
        for action, handler in (
            ("data", self._count), ("end", self._report), ("arrived", self._reports.put_nowait),
            ("ping", self._pong), ("pong", self._next_ping), ("echo", lambda data: data), ("load", self._switch_load),
            ("broadcast", lambda task: self.flood(**task)),
        ):  # fmt: skip
            messenger.on(action, handler)

    # -- receiving -------------------------------------------------------------------------------------

    def _count(self, data: bytes) -> None:
        self._counted += 1

    def _report(self, sender: int | str) -> None:
        counted, self._counted = self._counted, 0
        self.messenger.send_to(sender, "arrived", counted)

    def _pong(self, data: list[Any]) -> None:
        self.messenger.send_to(data[0], "pong", data[1])

    # -- sending ---------------------------------------------------------------------------------------

    async def flood(self, size: int, count: int, batch: int, receivers: int) -> float:
        """Seconds from the first send until every receiver has said that it has all; RuntimeError for a loss."""
        payload = bytes(size)
        began = time.perf_counter()
        for first in range(0, count, batch):
            await self._send_batch(payload, min(batch, count - first))
        await self._expect([count] * receivers)
        return time.perf_counter() - began

    async def _send_batch(self, payload: bytes, count: int) -> None:
        send = self.messenger.send
        while count:
            try:
                while count:
                    send("data", payload)
                    count -= 1
            except MessengerBusy:
                await self.messenger.drain()
        await self.messenger.drain()

    async def _expect(self, wanted: list[int]) -> None:
        counts = await self._ask_counts(len(wanted))
        if counts != wanted:
            raise RuntimeError(f"lost messages: sent {wanted}, counted {counts}")

    async def _ask_counts(self, receivers: int) -> list[int]:
        self.messenger.send("end", self._my_id())
        return [await self._reports.get() for _ in range(receivers)]

    async def ping(self, size: int, seconds: float) -> list[float]:
        """Round trips with bare messages, the next one sent by the handler of the last one's answer."""
        self._pinged = asyncio.get_running_loop().create_future()
        self._laps, self._ping_deadline = [], time.perf_counter() + seconds
        self._send_ping(bytes(size))
        await self._pinged
        return self._laps

    def _send_ping(self, payload: bytes) -> None:
        self._lap_began = time.perf_counter()
        self.messenger.send("ping", [self._my_id(), payload])

    def _next_ping(self, payload: bytes) -> None:
        now = time.perf_counter()
        self._laps.append(now - self._lap_began)
        if now < self._ping_deadline:
            self._send_ping(payload)
        elif self._pinged is not None:
            self._pinged.set_result(None)

    async def request(self, size: int, seconds: float) -> list[float]:
        """Round trips with `await request`."""
        payload, laps = bytes(size), []
        deadline = began = time.perf_counter()
        deadline += seconds
        while began < deadline:
            await self.messenger.request("echo", payload)
            now = time.perf_counter()
            laps.append(now - began)
            began = now
        return laps

    # -- load ------------------------------------------------------------------------------------------

    def _switch_load(self, order: dict[str, Any]) -> None:
        """Every app worker but the one that measures sends `rate` messages a second; 0: stop."""
        if self._load is not None:
            self._load.cancel()
            self._load = None
        if order["rate"] and order["by"] != self._my_id():
            self._load = asyncio.create_task(self._keep_loading(order["rate"], bytes(order["size"])))

    async def _keep_loading(self, rate: float, payload: bytes) -> None:
        began, sent = time.perf_counter(), 0
        while True:
            due = int((time.perf_counter() - began) * rate)
            await self._send_batch(payload, due - sent)
            sent = due
            await asyncio.sleep(LOAD_TICK)

    async def under_load(
        self, trips: Callable[[int, float], Awaitable[list[float]]], size: int, seconds: float, rate: float, bulk: int
    ) -> dict[str, Any]:
        """Round trips while another worker sends to the same agent, and how many of its messages arrived."""
        if rate:
            self.messenger.send_to_app("load", {"by": self._my_id(), "rate": rate, "size": bulk})
            await asyncio.sleep(LOAD_START)
        await self._ask_counts(1)
        began = time.perf_counter()
        laps = await trips(size, seconds)
        arrived = (await self._ask_counts(1))[0] / (time.perf_counter() - began)
        if rate:
            self.messenger.send_to_app("load", {"by": self._my_id(), "rate": 0})
            await asyncio.sleep(LOAD_START)
            await self._ask_counts(1)  # what came after the measurement is not the next one's
        return {"laps": laps, "load": arrived}

    async def run(self, task: str, **numbers: float) -> dict[str, Any]:
        """One task from the query string."""
        size = int(numbers["size"])
        if task in ("ping", "request"):
            trips = self.ping if task == "ping" else self.request
            return await self.under_load(trips, size, numbers["seconds"], numbers["rate"], int(numbers["bulk"]))
        order = {name: int(numbers[name]) for name in ("size", "count", "batch", "receivers")}
        if task == "flood":
            return {"seconds": await self.flood(**order)}
        return {"seconds": await self.messenger.request("broadcast", order, to="agent", timeout=TASK_TIMEOUT)}


async def serve(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application: a query string in, a measurement out."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    query = dict(parse_qsl(scope["query_string"].decode()))
    try:
        task = query.pop("task")
        result = await station.run(task, **{name: float(value) for name, value in query.items()})
    except Exception as error:
        result = {"error": repr(error)}
    body = json.dumps(result).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


app = Application(serve)
agent = Agent()


@app.on_start
async def open_app() -> None:
    global station
    station = Station(app.messenger, lambda: app.worker_id)


@agent.on_start
async def open_agent() -> None:
    global station
    station = Station(agent.messenger, lambda: "agent")


station: Station
