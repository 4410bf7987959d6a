"""The master's part of the file watching: when a change is a reload, and which files are whose."""

import logging
from pathlib import Path

import pytest

from eggcluster.ipc.file_watch import FilesChanged
from eggcluster.kernel.file_stamps import Stamp
from eggcluster.master.agent_records import AgentSources
from eggcluster.master.control.requests import MasterRequests
from eggcluster.master.events import BootFailed, Event, Inbox, ReloadRequested, Started
from eggcluster.master.file_watching import FileWatching
from eggcluster.model.lives.worker import AgentWorker, AppWorker, Worker
from eggcluster.options import ResolvedOptions
from tests.unit.conftest import Run

APP: Stamp = ("/srv/app.py", 1, 10)
AGENT: Stamp = ("/srv/agent.py", 1, 10)


def drained(inbox: Inbox) -> list[Event]:
    events = []
    while not inbox._events.empty():
        events.append(inbox._events.get_nowait())
    return events


@pytest.mark.parametrize("description", [{"event": "ready"}, {"event": "died", "state": "starting"}])
def test_a_change_during_the_boot_is_held_until_a_reload_can_help(run: Run, description: dict[str, str]) -> None:
    async def scenario() -> None:
        inbox = Inbox()
        watching = FileWatching(ResolvedOptions(base_dir="/srv"), "1-a", inbox)
        watching.changed(FilesChanged(1, [APP[0]]))
        watching.show({"event": "starting"})
        watching.show({"event": "died", "state": "listening"})
        assert not drained(inbox)
        watching.show(description)
        watching.show({"event": "ready"})
        assert drained(inbox) == [ReloadRequested(own_files=True)]
        watching.changed(FilesChanged(1, [APP[0]]))
        assert drained(inbox) == [ReloadRequested(own_files=True)]

    run(scenario())


def test_the_log_says_what_has_changed(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        with caplog.at_level(logging.INFO):
            FileWatching(ResolvedOptions(base_dir="/srv"), "1-a", Inbox()).changed(FilesChanged(1, [APP[0]]))
        assert "app.py changed, reloading" in caplog.text

    run(scenario())


def test_each_report_of_a_worker_may_name_its_sources() -> None:
    inbox, taken = Inbox(), list[tuple[Worker, tuple[Stamp, ...]]]()
    requests = MasterRequests(inbox, dict, list)
    requests.source_takers.append(lambda worker, sources: taken.append((worker, sources)))
    booted, failed = AppWorker(1, 1, 0, 60), AppWorker(2, 1, 0, 60)
    requests.report(booted, "app-start", {})
    requests.report(booted, "sources", {"sources": [APP]})
    requests.report(booted, "sources", {"sources": [["/srv/app.py", "1", None]]})  # another shape: no reason to end it
    requests.report(failed, "boot-failed", {"report": "no", "sources": [AGENT]})
    assert taken == [(booted, (APP,)), (failed, (AGENT,))]
    assert [type(event) for event in drained(inbox)] == [Started, BootFailed]


def test_the_agents_sources_are_those_of_the_last_agent_that_reported_any(tmp_path: Path) -> None:
    sources = AgentSources(Inbox(), ())
    first, second = AgentWorker(0, 1, 0, 60), AgentWorker(0, 2, 0, 60)
    sources.found(first, [AGENT])
    sources.found(AppWorker(1, 1, 0, 60), [APP])
    assert [*sources.stamps] == [AGENT]
    sources.starting()
    assert [*sources.stamps] == [AGENT], "the new one may not start"
    late: Stamp = ("/srv/late.py", 1, 1)
    sources.found(second, [AGENT])
    sources.found(second, [late])
    assert [*sources.stamps] == [AGENT, late]
