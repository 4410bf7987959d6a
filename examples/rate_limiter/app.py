"""A limit of requests a minute for each client, over all workers: the workers count together."""

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


async def limit(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    client = request.headers.get("x-api-key", "anonymous")
    key = f"requests:{client}"
    if shared.get(key, 0) >= LIMIT:  # from this worker's own memory: a client over the limit costs no message
        return Response("too many requests", 429)
    try:
        if await shared.increment(key, ttl=WINDOW) > LIMIT:
            return Response("too many requests", 429)
    except MessengerError:
        app.logger.warning("requests are not counted now")  # the agent is being replaced: serve rather than refuse
    return await call_next(request)


async def hello(request: Request) -> JSONResponse:
    return JSONResponse({"worker": app.worker_id})


async def counts(request: Request) -> JSONResponse:
    return JSONResponse(dict(shared))


routes = [Route("/", hello), Route("/counts", counts)]
app = Application(Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=limit)]))
shared = app.shared  # used here, so that every worker starts with a copy
