"""Detects the interface of an application, ASGI or WSGI, by its signature. Runs in the app workers."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal

Interface = Literal["asgi", "wsgi"]


def detect_interface(app: Callable[..., Any]) -> Interface | None:
    """Return "asgi" for a callable of (scope, receive, send), "wsgi" for (environ, start_response), else None."""
    # A partial's own signature has the arguments that are still to be given; its __call__ would take anything.
    plain = inspect.isroutine(app) or inspect.isclass(app) or isinstance(app, functools.partial)
    call = app if plain else getattr(app, "__call__", app)  # noqa: B004
    if inspect.iscoroutinefunction(call):
        return "asgi"
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return "asgi"  # a built-in or extension callable may have no signature; ASGI is the common case
    if _takes(signature, 3):
        return "asgi"
    return "wsgi" if _takes(signature, 2) else None


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
