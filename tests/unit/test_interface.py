"""ASGI or WSGI, judged by how an application can be called."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from eggcluster.worker.app.interface import detect_interface


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


def plain_asgi(scope: Any, receive: Any, send: Any) -> Any: ...


async def decorated(*args: Any, **kwargs: Any) -> None: ...


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []

    def method(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


class WsgiClass:
    """PEP 3333 allows it: the instance is the iterable."""

    def __init__(self, environ: Any, start_response: Any) -> None: ...


class WithSettings:
    async def __call__(self, scope: Any, receive: Any, send: Any, extra: int = 1) -> None: ...


@pytest.mark.parametrize(
    "app", [asgi, plain_asgi, decorated, AsgiObject(), WithSettings(), functools.partial(asgi), AsgiObject().__call__]
)
def test_asgi(app: Callable[..., Any]) -> None:
    assert detect_interface(app) == "asgi"


@pytest.mark.parametrize("app", [wsgi, WsgiObject(), WsgiObject().method, WsgiClass, functools.partial(wsgi)])
def test_wsgi(app: Callable[..., Any]) -> None:
    assert detect_interface(app) == "wsgi"


@pytest.mark.parametrize("app", [lambda: None, lambda one: None, lambda a, b, c, d: None])
def test_neither(app: Callable[..., Any]) -> None:
    assert detect_interface(app) is None


def test_the_frameworks_applications() -> None:
    from fastapi import FastAPI
    from flask import Flask
    from starlette.applications import Starlette

    assert detect_interface(FastAPI()) == "asgi"
    assert detect_interface(Starlette()) == "asgi"
    assert detect_interface(Flask("x")) == "wsgi"
