"""The application that every Python server of the HTTP benchmark serves. Runs in their workers.

`/` says hello, `/pid` who answers, `/block` stands still for so many seconds as the query tells. A worker that is
started while there is a file `slow` beside this one takes three seconds to boot.
"""

import os
import time
from typing import Any

SLOW_BOOT = 3.0  # seconds
HEADERS = [(b"content-type", b"text/plain; charset=utf-8")]
HELLO = {"type": "http.response.body", "body": b"hello world"}
START = {"type": "http.response.start", "status": 200, "headers": [*HEADERS, (b"content-length", b"11")]}

if os.path.exists(os.path.join(os.path.dirname(__file__), "slow")):
    time.sleep(SLOW_BOOT)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["path"] == "/":
        await send(START)
        await send(HELLO)
    else:
        if scope["path"] == "/block":
            time.sleep(float(scope["query_string"]))  # noqa: ASYNC251 - standing still is what it is for
        body = str(os.getpid()).encode()
        headers = [*HEADERS, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def lifespan(receive: Any, send: Any) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
