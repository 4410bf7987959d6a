"""Whatever comes in over HTTP is put into a Redis list; the agent gives each job to one worker, which does it here."""

import json
import os
from typing import Any

import redis.asyncio
from fastapi import FastAPI

from eggcluster import Application

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")

api = FastAPI()
app = Application(api)
broker: Any = redis.asyncio.from_url(URL, decode_responses=True)


@app.schedule(type="queue", options={"list": "mails"}, timeout="30s", retry=1)
async def send_mail(job: str) -> None:
    mail = json.loads(job)
    if "@" not in mail["to"]:
        raise ValueError(f"{mail['to']} is no address")
    await broker.hset("sent", mail["to"], app.worker_id)


@api.post("/mails/{to}")
async def post(to: str) -> dict[str, int]:
    return {"waiting": await broker.rpush("mails", json.dumps({"to": to}))}


@api.get("/mails")
async def mails() -> dict[str, Any]:
    return {"sent": await broker.hgetall("sent"), "failed": await broker.lrange("mails:failed", 0, -1)}


@app.on_close
async def disconnect() -> None:
    await broker.aclose()
