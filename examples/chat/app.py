"""A chat over WebSockets: `send_to_app` takes what one client writes to the clients of every worker."""

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from eggcluster import Application

PAGE = """<!doctype html>
<title>Chat</title>
<p id="state">connecting</p>
<form><input autofocus autocomplete="off" maxlength="500"><button>Send</button></form>
<ul></ul>
<script>
const [input, list] = [document.querySelector("input"), document.querySelector("ul")];
const socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/ws`);
socket.onclose = () => { document.querySelector("#state").textContent = "disconnected"; };
socket.onmessage = ({ data }) => {
  const { hello, text, by } = JSON.parse(data);
  if (hello) document.querySelector("#state").textContent = hello;
  else list.prepend(Object.assign(document.createElement("li"), { textContent: `${text} (by ${by})` }));
};
document.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  socket.send(input.value);
  input.value = "";
};
</script>"""


async def page(request: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


async def chat(socket: WebSocket) -> None:
    await socket.accept()
    app.local.clients.add(socket)
    try:
        await socket.send_json({"hello": f"you are with app_worker#{app.slot}"})
        async for text in socket.iter_text():
            app.messenger.send_to_app("said", {"text": text, "by": f"app_worker#{app.slot}"})
    finally:
        app.local.clients.discard(socket)


app = Application(Starlette(routes=[Route("/", page), WebSocketRoute("/ws", chat)]))


@app.on_start
def begin() -> None:
    app.local.clients = set()


@app.messenger.on("said")
async def tell(message: dict[str, str]) -> None:  # in every worker, including the sender
    await asyncio.gather(*(client.send_json(message) for client in app.local.clients), return_exceptions=True)
