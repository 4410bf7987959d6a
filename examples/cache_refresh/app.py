"""Every worker answers from its own memory, which is read again when the agent says that the source has changed."""

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from eggcluster import Application

SOURCE = Path(__file__).with_name("prices.json")

api = FastAPI()
app = Application(api)
cache: dict[str, Any] = {}


def load() -> None:
    prices = json.loads(SOURCE.read_text())
    cache.clear()
    cache.update(prices)


@app.on_start
def warm_up() -> None:
    load()


@app.messenger.on("refresh")
def refresh(data: dict[str, Any]) -> None:
    load()
    app.logger.info("cache refreshed, the source is of %s", data["changed"])


@api.get("/prices")
async def prices() -> dict[str, Any]:
    return {"worker": app.worker_id, "prices": cache}
