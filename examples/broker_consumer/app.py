"""Workers do what the agent takes from the broker, and read from their own memory how much has been done."""

import asyncio
from typing import Any

from fastapi import FastAPI

from eggcluster import Application

api = FastAPI()
app = Application(api)
shared = app.shared


@app.messenger.on("order")
async def order(text: str) -> int:
    await asyncio.sleep(0.01)  # the work itself
    if text == "the moon":
        raise ValueError("we do not sell that")
    return app.worker_id


@api.get("/orders")
async def orders() -> dict[str, Any]:
    return {"worker": app.worker_id, **shared}
