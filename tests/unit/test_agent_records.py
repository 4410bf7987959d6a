"""What the master keeps about the agent: a bounded journal, and whether a reload replaces the agent, too."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from eggcluster.errors import FrameError
from eggcluster.kernel.threads import start_daemon
from eggcluster.master import agent_records
from eggcluster.master.agent_records import MAX_JOURNAL_BYTES, AgentJournal, AgentSources
from eggcluster.master.events import Inbox, Progress, ReloadRequested
from tests.unit.conftest import Run
from tests.waiting import until


def test_a_new_value_takes_the_place_of_the_old_one() -> None:
    journal = AgentJournal()
    for value in (b"one", b"two"):
        journal.record({"key": "poll", "value": value})
    journal.record({"key": "other", "value": b""})
    assert journal.entries == {"poll": b"two", "other": b""}


def test_it_is_bounded_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    journal = AgentJournal()
    for number in range(1000):
        journal.record({"key": f"key {number}", "value": bytes(1000)})
    assert sum(len(key) + len(value) for key, value in journal.entries.items()) <= MAX_JOURNAL_BYTES
    assert len(journal.entries) > 60
    assert caplog.text.count("some entries are not kept") == 1
    journal.record({"key": "key 0", "value": b"smaller"})
    journal.record({"key": "key 2000", "value": bytes(900)})
    assert journal.entries["key 0"] == b"smaller"
    assert "key 2000" in journal.entries


@pytest.mark.parametrize(
    "details", [{}, {"key": "a"}, {"key": 1, "value": b""}, {"key": "a", "value": "text"}, {"key": None, "value": None}]
)
def test_another_shape_is_no_report(details: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        AgentJournal().record(details)


def no_thread(target: Callable[..., Any], *args: Any, name: str) -> NoReturn:
    """As where the number of threads is limited: `pids.max`, `ulimit -u`."""
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("start", [start_daemon, no_thread])
@pytest.mark.parametrize("size", [0, 1], ids=["unchanged", "changed"])
def test_the_sources_are_compared_also_where_no_thread_can_be_started(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Any, size: int
) -> None:
    monkeypatch.setattr(agent_records, "start_daemon", start)
    source = tmp_path / "agent.py"
    source.touch()

    async def work() -> None:
        inbox = Inbox()
        sources = AgentSources(inbox, ())
        sources.stamps = ((str(source), os.stat(source).st_mtime_ns, size),)
        sources.compare(ReloadRequested())
        assert await inbox.next(asyncio.get_running_loop().time() + 5) == ReloadRequested(bool(size))

    run(work())


def test_a_flood_of_reloads_starts_one_thread_at_a_time_and_each_order_is_carried_out(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    threads: list[str] = []

    def look(stamps: object) -> bool:
        threads.append(threading.current_thread().name)
        return answers.wait()

    monkeypatch.setattr(agent_records, "any_changed", look)

    async def work() -> None:
        inbox = Inbox()
        sources = AgentSources(inbox, ())
        orders = [Progress() for _ in range(100)]
        sources.compare(ReloadRequested(None, orders[0]))
        await until(lambda: bool(threads))
        for order in orders[1:]:
            sources.compare(ReloadRequested(None, order))
            sources.compare(ReloadRequested())  # a signal
        orders[1].abandon()  # its client has gone
        answers.set()
        events = [await inbox.next(None) for _ in range(101)]
        assert all(isinstance(event, ReloadRequested) and event.agent for event in events)
        came = [event.progress for event in events if isinstance(event, ReloadRequested)]
        assert [progress for progress in came if progress is not None] == orders
        assert len(threads) == 2
        assert await inbox.next(0) is None

    run(work())


def test_a_disk_that_never_answers_keeps_no_reload_waiting(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(agent_records, "any_changed", lambda stamps: answers.wait())
    monkeypatch.setattr(agent_records, "COMPARE_TIMEOUT", 0.05)

    async def work() -> None:
        inbox = Inbox()
        AgentSources(inbox, ()).compare(ReloadRequested())
        assert await inbox.next(asyncio.get_running_loop().time() + 5) == ReloadRequested(False)
        assert "its files could not be checked" in caplog.text

    try:
        run(work())
    finally:
        answers.set()
