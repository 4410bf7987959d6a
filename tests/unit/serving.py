"""The fixture `run` for modules in which HTTP is served. They import it; the others have that of conftest.py."""

import asyncio
from collections.abc import Iterator

import pytest
import uvloop

from eggcluster.http import h11_parser, reader
from tests.unit.conftest import Run, in_a_loop_of


@pytest.fixture(name="run", params=["asyncio", "uvloop", "asyncio, h11"])
def run_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a coroutine in either event loop, and with the parser of a subinterpreter."""
    if request.param == "asyncio, h11":
        monkeypatch.setattr(reader, "new_parser", h11_parser.H11Parser)
        for error in ("SwitchProtocols", "CallbackFailed", "BadRequest"):
            monkeypatch.setattr(reader, error, getattr(h11_parser, error))
    yield from in_a_loop_of(uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop)
