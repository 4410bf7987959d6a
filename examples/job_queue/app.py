"""Each HTTP request puts a job into a Redis list; the agent gives each job to one worker, which does it here."""

import json
import os

import redis.asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from eggcluster import Application

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")


async def post(request: Request) -> JSONResponse:
    return JSONResponse({"waiting": await app.local.broker.rpush("mails", json.dumps(request.path_params))})


async def mails(request: Request) -> JSONResponse:
    broker = app.local.broker
    return JSONResponse({"sent": await broker.hgetall("sent"), "failed": await broker.lrange("mails:failed", 0, -1)})


app = Application(Starlette(routes=[Route("/mails/{to}", post, methods=["POST"]), Route("/mails", mails)]))


@app.on_start
async def connect() -> None:
    app.local.broker = redis.asyncio.from_url(URL, decode_responses=True)


@app.schedule(type="queue", options={"list": "mails"}, timeout="30s", retry=1)
async def send_mail(job: str) -> None:
    mail = json.loads(job)
    if "@" not in mail["to"]:
        raise ValueError(f"{mail['to']} is no address")
    await app.local.broker.hset("sent", mail["to"], app.worker_id)


@app.on_close
async def disconnect() -> None:
    await app.local.broker.aclose()
