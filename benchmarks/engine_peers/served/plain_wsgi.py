"""The bare WSGI application of the engine benchmark. Runs in the workers of its WSGI servers."""

from collections.abc import Callable
from typing import Any

HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "11")]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", HEADERS)
    return [b"hello world"]
