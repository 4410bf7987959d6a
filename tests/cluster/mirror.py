"""What real clients and proxies ask for, as an ASGI and as a WSGI application. Runs in the app workers.

Both give the answers of the stage, which the load verifies; `/request` says how the request looks to the application,
and `/refuse` refuses it before its body is read.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.chaos.served import stage

REFUSED = b"no upload without a password\n"
PIECE = 2**16  # bytes

Scope = dict[str, Any]
Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


async def asgi(scope: Scope, receive: stage.Receive, send: stage.Send) -> None:
    if scope["type"] == "websocket":
        await converse(scope, receive, send)
    elif scope["type"] == "http" and scope["path"] == "/request":
        host = dict(scope["headers"])[b"host"].decode()
        client = scope["client"][0] if scope["client"] else None
        await stage.answer(send, described(scope["method"], scope["scheme"], client, host))
    elif scope["type"] == "http" and scope["path"] == "/refuse":
        length = (b"content-length", b"%d" % len(REFUSED))
        await send({"type": "http.response.start", "status": 401, "headers": [length]})
        await send({"type": "http.response.body", "body": REFUSED})
    elif scope["type"] == "http" and scope["path"].split("/")[1] not in stage.ANSWERS:
        await send({"type": "http.response.start", "status": 404})
        await send({"type": "http.response.body"})
    else:
        await stage.api(scope, receive, send)


async def converse(scope: Scope, receive: stage.Receive, send: stage.Send) -> None:
    """Say how the handshake looks, then echo texts and bytes; `close` asks for the end."""
    await receive()
    protocols = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": protocols[0] if protocols else None})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "who":
            client = scope["client"][0] if scope["client"] else None
            message["text"] = json.dumps({"client": client, "scheme": scope["scheme"]})
        if message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4000, "reason": "as asked"})
            break
        await send({**message, "type": "websocket.send"})


def wsgi(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    what, _, given = environ["PATH_INFO"].strip("/").partition("/")
    status, answer = ANSWERS.get(what, nothing)(given, environ)
    headers = [("X-Worker", str(os.getpid()))]
    if isinstance(answer, bytes):
        headers.append(("Content-Length", str(len(answer))))
    start_response(status, headers)
    return [answer] if isinstance(answer, bytes) else answer


def echo(nonce: str, environ: Environ) -> tuple[str, bytes]:
    return "200 OK", nonce.encode("latin-1")


def upload(nonce: str, environ: Environ) -> tuple[str, bytes]:
    digest, length = hashlib.sha256(), 0
    while piece := environ["wsgi.input"].read(PIECE):
        digest.update(piece)
        length += len(piece)
    return "200 OK", f"{nonce} {length} {digest.hexdigest()}".encode()


def stream(given: str, environ: Environ) -> tuple[str, Iterator[bytes]]:
    count, pause, nonce = given.split("/")
    return "200 OK", lines(int(count), int(pause), nonce)


def lines(count: int, pause: int, nonce: str) -> Iterator[bytes]:
    for number in range(count):
        yield f"{nonce} {number}\n".encode()
        time.sleep(pause / 1000)


def request(given: str, environ: Environ) -> tuple[str, bytes]:
    method, scheme = environ["REQUEST_METHOD"], environ["wsgi.url_scheme"]
    return "200 OK", described(method, scheme, environ.get("REMOTE_ADDR"), environ["HTTP_HOST"]).encode()


def refuse(given: str, environ: Environ) -> tuple[str, bytes]:
    return "401 Unauthorized", REFUSED


def nothing(given: str, environ: Environ) -> tuple[str, bytes]:
    return "404 Not Found", b""


ANSWERS: dict[str, Callable[[str, Environ], tuple[str, bytes | Iterator[bytes]]]] = {
    "echo": echo,
    "refuse": refuse,
    "request": request,
    "stream": stream,
    "upload": upload,
}


def described(method: str, scheme: str, client: str | None, host: str) -> str:
    return json.dumps({"method": method, "scheme": scheme, "client": client, "host": host})
