"""Our tasks in app workers. Runs in a cluster that the benchmark starts, with the folder as its base directory."""

import time
from typing import Any

from lateness import INTERVAL, late_by_grid, load, note  # type: ignore[import-not-found]

from eggcluster import Application, scheduled_for


async def api(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello world"})


app = Application(api)
app.background(load)


@app.schedule(INTERVAL)
async def interval() -> None:
    note("interval, a worker", time.time() - (scheduled_for() or 0.0))


@app.schedule(cron="* * * * * *")
async def cron() -> None:
    note("cron, a worker", late_by_grid(0, 1))
