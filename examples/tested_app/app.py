"""A guestbook: every worker hears of each guest, and the agent counts them. Its tests are in `tests`: run `pytest`."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from eggcluster import Application


async def welcome(request: Request) -> JSONResponse:
    name = request.path_params["name"]
    app.messenger.send_to_app("welcomed", name)
    return JSONResponse({"number": await app.messenger.request("count", name, to="agent")})


async def guests(request: Request) -> JSONResponse:
    return JSONResponse({"worker": app.slot, "guests": app.local.guests})


app = Application(
    Starlette(routes=[Route("/guests/{name}", welcome, methods=["POST"]), Route("/guests", guests)]),
)


@app.on_start
def begin() -> None:
    app.local.guests = []


@app.messenger.on("welcomed")
def remember(name: str) -> None:
    app.local.guests.append(name)


@app.on_close
def report() -> None:
    app.logger.info("this worker has heard of %d guests", len(app.local.guests))
