"""So many requests a minute for each client, whichever workers they reach: the workers count together."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from eggcluster import Application, MessengerError

LIMIT = 10  # requests
WINDOW = 60.0  # seconds, from a client's first request on

api = FastAPI()
app = Application(api)
shared = app.shared  # named here, so that every worker starts with a copy


@api.middleware("http")
async def limit(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    client = request.headers.get("x-api-key", "anonymous")
    key = f"requests:{client}"
    if shared.get(key, 0) >= LIMIT:  # from this worker's own memory: who is over the limit costs nobody a message
        return Response("too many requests", 429)
    try:
        if await shared.increment(key, ttl=WINDOW) > LIMIT:
            return Response("too many requests", 429)
    except MessengerError:
        app.logger.warning("nobody counts at the moment")  # the agent is being replaced: rather serve than refuse
    return await call_next(request)


@api.get("/")
async def hello() -> dict[str, int]:
    return {"worker": app.worker_id}


@api.get("/counts")
async def counts() -> dict[str, int]:
    return dict(shared)
