"""Fixtures of the unit tests."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from eggcluster.options import ResolvedOptions
from tests.cluster.surroundings import key_pair

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine in an event loop: the standard library's (the parent's may be any), and ours."""
    yield from in_a_loop_of(uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop)


def in_a_loop_of(factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[Run]:
    """Yield a function that runs a coroutine in a loop of that kind, for 20 s at most."""
    with asyncio.Runner(loop_factory=factory) as runner:

        def until_done(work: Coroutine[Any, Any, None]) -> None:
            runner.run(asyncio.wait_for(work, 20))

        yield until_done


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ResolvedOptions, ssl.SSLContext]:
    """Options with a key of their own, and a context for clients that trust it."""
    key, certificate = key_pair(tmp_path, "cluster")
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    return ResolvedOptions(https_key=key, https_cert=certificate), context
