"""What `main.py` starts: an application that answers HTTP and its parent."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from eggcluster import Application


async def hello(request: Request) -> PlainTextResponse:
    name = request.path_params["name"]
    app.messenger.send_to_parent("greeted", name)
    return PlainTextResponse(f"Hello {name}, this is app_worker#{app.slot}.")


app = Application(Starlette(routes=[Route("/hello/{name}", hello)]))


@app.messenger.on("square")
def square(number: int) -> dict[str, int]:
    return {"slot": app.slot, "result": number * number}
