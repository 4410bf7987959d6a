"""The bare ASGI application of the engine benchmark. Runs in the workers of every server.

`GET /` says hello, `POST /` reads the body and answers with its length, `/download` sends 1 MiB, `/tree` tells which
eggcluster is loaded, a WebSocket at any path echoes text.
"""

import sys
from typing import Any

PIECE = bytes(65_536)  # what Starlette's FileResponse reads at a time
PIECES = 16
TYPE = (b"content-type", b"text/plain; charset=utf-8")


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["path"] == "/download":
        await download(send)
    elif scope["path"] == "/tree":
        await answer(send, str(getattr(sys.modules.get("eggcluster"), "__file__", "")).encode())
    elif scope["method"] == "POST":
        await answer(send, b"%d" % await length(receive))
    else:
        await answer(send, b"hello world")


async def answer(send: Any, body: bytes) -> None:
    headers = [TYPE, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def length(receive: Any) -> int:
    total = 0
    while True:
        message = await receive()
        total += len(message.get("body", b""))
        if not message.get("more_body"):
            return total


async def download(send: Any) -> None:
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % (PIECES * len(PIECE)))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for left in reversed(range(PIECES)):
        await send({"type": "http.response.body", "body": PIECE, "more_body": left > 0})


async def echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def lifespan(receive: Any, send: Any) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
