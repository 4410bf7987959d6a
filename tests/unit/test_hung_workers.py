"""Hung workers, and workers that were only not seen: the supervisor's judgement of the heartbeats."""

import logging

from eggcluster.model.lives.commands import Abort, Log, ReportDeath, Steer
from eggcluster.model.lives.health import STALLED_AFTER
from eggcluster.model.lives.worker import ExitReport, Heartbeat, Worker
from tests.unit.world import World, booted

ABORTED = ExitReport(signal="SIGABRT")


def steered(world: World) -> list[Worker]:
    """The workers of which the kernel was told that they stand still, or move again."""
    return [worker for steer in world.given(Steer) for worker in steer.changed]


def test_a_loop_that_does_not_move_gets_no_new_connections_within_a_second() -> None:
    world = booted(workers=2)
    worker = world.app(1)
    world.falls_silent(worker).pass_time(1)
    assert steered(world) == [worker]
    assert worker.stalled
    assert STALLED_AFTER < 1


def test_a_loop_that_moves_again_gets_them_again() -> None:
    world = booted(workers=2, worker_timeout=30)
    worker = world.app(1)
    world.falls_silent(worker).pass_time(5)
    world.silent.clear()
    assert steered(world.pass_time(0.3)) == [worker]
    assert not worker.stalled
    assert not world.aborted


def test_a_loop_that_stands_still_for_the_timeout_is_aborted_once_and_its_slot_filled_at_once() -> None:
    world = booted(workers=2, worker_timeout=30)
    hung = world.app(1)
    assert not world.falls_silent(hung).pass_time(29.5).given(Abort)
    assert world.pass_time(1).given(Abort) == [Abort(hung)]
    assert not world.pass_time(10).given(Abort)
    world.exits(hung, ABORTED)
    assert world.supervisor.slots[0].last_death == "its event loop had not moved for 30s"
    assert [worker.slot for worker in world.forked()] == [1]
    assert world.given(ReportDeath)


def test_without_a_timeout_a_loop_may_stand_still_for_ever() -> None:
    world = booted(workers=1, worker_timeout=0)
    world.falls_silent(world.app(1)).pass_time(10_000)
    assert not world.aborted


def test_a_hung_agent_has_a_timeout_of_its_own() -> None:
    world = booted(workers=1, worker_timeout=5, agent_timeout=20)
    agent = world.agent
    world.falls_silent(agent).pass_time(19)
    assert not world.aborted
    assert world.pass_time(2).given(Abort) == [Abort(agent)]


def test_an_agent_that_hangs_while_the_app_workers_boot_fails_the_boot() -> None:
    world = World(workers=1, agent_timeout=5).boot()
    agent = world.agent
    world.started(agent).falls_silent(agent).pass_time(6)
    world.exits(agent, ABORTED)
    assert world.supervisor.boot_failure is agent
    assert agent.failure is not None
    assert "its event loop had not moved for 5s" in agent.failure


def test_a_worker_that_boots_has_only_its_start_timeout() -> None:
    world = World(workers=1, worker_timeout=5, app_start_timeout=100).boot()
    world.started(world.agent).falls_silent(world.app(1)).pass_time(90)
    assert not world.aborted
    assert not world.killed


def test_a_worker_that_closes_has_only_its_close_timeout() -> None:
    world = booted(workers=1, worker_timeout=2, app_close_timeout=60, close_timeout=100)
    world.falls_silent(world.app(1)).close().pass_time(50)
    assert not world.aborted


def test_a_master_that_did_not_run_blames_no_worker() -> None:
    """It was stopped with all the others: a suspended container, Ctrl-Z."""
    world = booted(workers=2, worker_timeout=30)
    for worker in world.apps():
        world.falls_silent(worker)
    world.oversleeps(3600)
    assert any(say.level == logging.WARNING and "did not run" in say.text for say in world.given(Log))
    assert not world.pass_time(29).aborted
    world.pass_time(2)
    assert len(world.aborted) == 2, "but a worker that stays silent from now on is hung"


def test_a_master_that_did_not_run_grants_a_booting_worker_the_rest_of_its_time() -> None:
    world = World(workers=1, app_start_timeout=60).boot()
    world.started(world.agent).pass_time(20)
    world.oversleeps(1000).pass_time(39)
    assert not world.killed
    world.pass_time(2)
    assert world.killed == {world.app(1)}


def test_a_master_that_did_not_run_does_not_count_it_as_time_without_workers() -> None:
    world = booted(workers=1, app_start_timeout=1000)
    world.exits(world.app(1)).pass_time(5)
    for _ in range(5):
        world.oversleeps(100)
    assert not world.supervisor.finished
    assert world.apps()


def test_a_change_of_load_is_told_to_the_kernel_and_none_is_not() -> None:
    world = booted(workers=2)
    world.loads[world.app(1)] = Heartbeat(connections=7)
    assert world.pass_time(0.2).given(Steer) == [Steer(())]
    assert not world.pass_time(10).given(Steer)
