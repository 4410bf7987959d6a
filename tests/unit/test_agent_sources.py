"""Whether a reload is the agent's, too."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from eggcluster.kernel.threads import start_daemon
from eggcluster.master import agent_records as agent_sources
from eggcluster.master.agent_records import AgentSources
from eggcluster.master.events import Inbox, ReloadRequested
from tests.unit.conftest import Run


def no_thread(target: Callable[..., Any], *args: Any, name: str) -> NoReturn:
    """As where the number of threads is limited: `pids.max`, `ulimit -u`."""
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("start", [start_daemon, no_thread])
@pytest.mark.parametrize("size", [0, 1], ids=["unchanged", "changed"])
def test_the_sources_are_compared_also_where_no_thread_can_be_started(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Any, size: int
) -> None:
    monkeypatch.setattr(agent_sources, "start_daemon", start)
    source = tmp_path / "agent.py"
    source.touch()

    async def work() -> None:
        inbox = Inbox()
        sources = AgentSources(inbox)
        sources.stamps = ((str(source), os.stat(source).st_mtime_ns, size),)
        sources.compare(None)
        assert await inbox.next(asyncio.get_running_loop().time() + 5) == ReloadRequested(bool(size))

    run(work())


def test_a_disk_that_never_answers_keeps_no_reload_waiting(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(agent_sources, "any_changed", lambda stamps: answers.wait())
    monkeypatch.setattr(agent_sources, "PATIENCE", 0.05)

    async def work() -> None:
        inbox = Inbox()
        AgentSources(inbox).compare(None)
        assert await inbox.next(asyncio.get_running_loop().time() + 5) == ReloadRequested(False)
        assert "its files could not be looked at" in caplog.text

    try:
        run(work())
    finally:
        answers.set()
