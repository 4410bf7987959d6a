"""A limit of requests a minute for each client, over all workers: the workers count together."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from eggcluster import Application, MessengerError

LIMIT = 10  # requests
WINDOW = 60.0  # seconds, from a client's first request on
PATIENCE = 0.2  # seconds that a request waits for being counted; the agent needs some 0.0002
PAUSE = 1.0  # seconds in which a worker counts nothing after that


async def limit(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    client = request.headers.get("x-api-key", "anonymous")
    key = f"requests:{client}"
    if shared.get(key, 0) >= LIMIT:  # from this worker's own memory: a client over the limit costs no message
        return Response("too many requests", 429)
    if await count(key) > LIMIT:
        return Response("too many requests", 429)
    return await call_next(request)


async def count(key: str) -> int:
    """Count a request; return the number so far, or 0 if it cannot be counted now: serve rather than refuse or wait."""
    now = time.monotonic()
    if now < getattr(app.local, "count_again_at", 0.0):
        return 0
    try:
        async with asyncio.timeout(PATIENCE):
            return int(await shared.increment(key, ttl=WINDOW))
    except (MessengerError, TimeoutError):  # the agent is being replaced
        app.local.count_again_at = now + PAUSE
        app.logger.warning("requests are not counted now")
        return 0


async def hello(request: Request) -> JSONResponse:
    return JSONResponse({"worker": app.worker_id})


async def counts(request: Request) -> JSONResponse:
    return JSONResponse(dict(shared))


routes = [Route("/", hello), Route("/counts", counts)]
app = Application(Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=limit)]))
shared = app.shared  # used here, so that every worker starts with a copy
