"""gunicorn's side: an ASGI application that measures round trips to a dirty worker, and that worker."""

import json
from importlib import import_module
from typing import Any

from stopwatch import at_once, round_trips

dirty = import_module("gunicorn.dirty")  # not by statement: mypy has to pass where it is not installed
DATA = bytes(16)


class Echo(dirty.DirtyApp):  # type: ignore[misc, name-defined]  # its module comes by name
    """The dirty worker's."""

    def echo(self, data: bytes) -> bytes:
        return data


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    seconds = float(scope["query_string"].decode())
    client = await dirty.get_dirty_client_async()

    async def call() -> None:
        assert await client.execute_async("app:Echo", "echo", DATA) == DATA

    # Its client carries one call at a time over its one connection, so there is one caller.
    result = await round_trips(call, seconds) | {"per second": await at_once(call, seconds, 1)}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(result).encode()})
