"""Which interface an application speaks, ASGI or WSGI: told by how it can be called. Runs in the app workers."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal

Interface = Literal["asgi", "wsgi"]


def detect_interface(app: Callable[..., Any]) -> Interface | None:
    """ "asgi" for what takes (scope, receive, send), "wsgi" for (environ, start_response), None for neither."""
    # A partial's own signature is what is left to be given; its __call__ would take anything.
    plain = inspect.isroutine(app) or inspect.isclass(app) or isinstance(app, functools.partial)
    call = app if plain else getattr(app, "__call__", app)  # noqa: B004
    if inspect.iscoroutinefunction(call):
        return "asgi"
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return "asgi"  # a built-in or extension callable does not tell; ASGI is what is asked for most
    if _takes(signature, 3):
        return "asgi"
    return "wsgi" if _takes(signature, 2) else None


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
