"""Fixtures of the unit tests."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine in an event loop: the standard library's (the parent's may be any), and ours."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:

        def until_done(work: Coroutine[Any, Any, None]) -> None:
            runner.run(asyncio.wait_for(work, 20))

        yield until_done
