"""Worn workers are replaced by fresh ones: start before stop, one at a time, never during a reload."""

from typing import Any

import pytest

from eggcluster.model.lives.commands import Log, ReloadEnded
from eggcluster.model.lives.settings import EARLY_SHARE, RECYCLE_PAUSE_AFTER_FAILURE, RecycleLimits, recycle_reason
from eggcluster.model.lives.worker import AppWorker, ExitReport, Heartbeat, Worker
from tests.unit.world import FAILED, World, booted


def worker(**more: Any) -> Worker:
    return AppWorker(1, 1, 0.0, 60.0, listening_since=0.0, **more)


@pytest.mark.parametrize(
    ("limits", "signs", "rss", "now", "why"),
    [
        (RecycleLimits(requests=100), Heartbeat(requests=99), 0, 1.0, None),
        (RecycleLimits(requests=100), Heartbeat(requests=100), 0, 1.0, "100 requests"),
        (RecycleLimits(lifetime=60), Heartbeat(), 0, 59.9, None),
        (RecycleLimits(lifetime=60), Heartbeat(), 0, 60.0, "1m00s of age"),
        (RecycleLimits(rss=1024**2), Heartbeat(), 1024**2, 60.0, None),
        (RecycleLimits(rss=1024**2), Heartbeat(), 3 * 1024**2, 60.0, "3 MiB of memory"),
        (RecycleLimits(rss=1024**2), Heartbeat(), 3 * 1024**2, 4.9, None),  # too young: it may be what it needs
        (RecycleLimits(lost_threads=4), Heartbeat(lost_threads=3), 0, 60.0, None),
        (RecycleLimits(lost_threads=4), Heartbeat(lost_threads=4), 0, 0.5, "losing 4 of its WSGI threads"),
        (RecycleLimits(), Heartbeat(requests=10**9, lost_threads=8), 10**12, 10**9, None),
    ],
)
def test_a_worker_is_worn_out_at_its_limit(
    limits: RecycleLimits, signs: Heartbeat, rss: int, now: float, why: str | None
) -> None:
    assert recycle_reason(worker(heartbeat=signs, rss=rss), limits, now) == why


def test_the_jitter_makes_it_early_by_a_tenth_at_most() -> None:
    early = worker(jitter=1.0, heartbeat=Heartbeat(requests=90))
    assert recycle_reason(early, RecycleLimits(requests=100), 1.0) == "90 requests"
    early.heartbeat = Heartbeat(requests=89)
    assert recycle_reason(early, RecycleLimits(requests=100), 1.0) is None
    assert EARLY_SHARE == 0.1


def busy(workers: int = 2) -> World:
    """A world whose workers have all had their share of requests."""
    world = booted(workers=workers, limits=RecycleLimits(requests=10))
    for each in world.apps():
        world.loads[each] = Heartbeat(requests=10)
    return world


def test_the_new_one_starts_before_the_old_one_stops_and_one_slot_comes_after_the_other() -> None:
    world = busy()
    first, second = world.apps()
    world.pass_time(0.2)
    assert [each.slot for each in world.forked()] == [1]
    assert not world.pass_time(5).forked(), "the second one waits"
    new = world.apps(1)[-1]
    assert world.started(new).stopped() == [first]
    assert not world.pass_time(3).forked(), "until the first one is gone"
    world.exits(first, ExitReport(code=0))
    world.pass_time(2)
    assert [each.slot for each in world.forked()] == [2]
    world.started(world.apps(2)[-1]).exits(second, ExitReport(code=0))
    assert not world.pass_time(100).forked(), "the new ones are fresh"


def test_a_worn_worker_whose_successor_does_not_start_goes_on_and_has_time_until_the_next_try() -> None:
    world = busy(workers=1)
    old = world.app(1)
    world.pass_time(0.2)
    world.exits(world.apps()[-1], FAILED, failure="SyntaxError: x")
    assert world.supervisor.listening_apps() == [old]
    assert not world.given(ReloadEnded)
    assert any("goes on" in say.text for say in world.given(Log))
    assert not world.pass_time(RECYCLE_PAUSE_AFTER_FAILURE - 1).forked()
    assert world.pass_time(2).forked()


def test_a_worn_worker_that_dies_meanwhile_is_followed_by_its_successor() -> None:
    world = busy(workers=1)
    old = world.app(1)
    new = world.pass_time(0.2).forked()[0]
    world.exits(old)
    assert world.started(new).apps() == [new]
    assert not world.ordered


def test_no_worker_is_recycled_while_a_reload_runs() -> None:
    world = booted(workers=2, limits=RecycleLimits(requests=10))
    second = world.app(2)
    world.reload()
    world.loads[second] = Heartbeat(requests=10)
    assert not world.pass_time(10).forked()
    world.started(world.apps(1)[-1])
    assert world.forked() == [world.apps(2)[-1]], "that is the reload's own next step"


def test_a_reload_that_is_asked_for_meanwhile_follows() -> None:
    world = busy(workers=1)
    old = world.app(1)
    new = world.pass_time(0.2).forked()[0]
    world.reload()
    assert any("the reload follows it" in say.text for say in world.given(Log))
    world.started(new).exits(old, ExitReport(code=0))
    third = world.forked()[0]
    world.started(third).exits(new, ExitReport(code=0))
    assert world.given(ReloadEnded) == [ReloadEnded(None)]
    assert world.apps() == [third]


def test_a_reload_that_waited_for_a_recycling_that_failed_begins_all_the_same() -> None:
    world = busy(workers=1)
    world.pass_time(0.2)
    world.reload().exits(world.apps()[-1], FAILED)
    assert len(world.forked()) == 1
    assert not world.given(ReloadEnded)


def test_closing_during_a_recycling_ends_both_workers() -> None:
    world = busy(workers=1)
    world.pass_time(0.2).close()
    assert len(world.stopped()) == 2
    assert not world.given(ReloadEnded)


def test_with_a_limit_that_all_exceed_again_and_again_each_slot_has_its_turn() -> None:
    world = booted(workers=3, limits=RecycleLimits(lifetime=1))
    turns = []
    for _ in range(6):
        world.pass_time(2)
        (new,) = world.forked()
        turns.append(new.slot)
        (old,) = world.started(new).stopped()
        world.exits(old, ExitReport(code=0))
    assert turns == [1, 2, 3, 1, 2, 3]
