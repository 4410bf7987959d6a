"""The supervisor's decisions, told one after the other as the manual tells them."""

import logging

import pytest

from eggcluster.model.lives.commands import (
    CloseListeners,
    Fork,
    Kill,
    Log,
    NotifyReady,
    PublishPids,
    ReloadEnded,
    ReportDeath,
    Stop,
)
from eggcluster.model.lives.phase import ExitCode, Phase
from eggcluster.model.lives.settings import RecycleLimits, SupervisorSettings
from eggcluster.model.lives.worker import AgentWorker, ExitReport, Heartbeat, WorkerState
from tests.unit.world import FAILED, World, booted

# -- boot ------------------------------------------------------------------------------------------------------


def test_the_agent_is_started_first_and_alone() -> None:
    world = World(workers=3).boot()
    assert world.living == [world.agent]


def test_the_app_workers_are_started_once_the_agent_has_started() -> None:
    world = World(workers=3).boot()
    world.started(world.agent)
    assert [worker.slot for worker in world.forked()] == [1, 2, 3]
    assert world.supervisor.phase is Phase.APPS_BOOT


def test_one_command_starts_all_app_workers_and_one_command_stops_them() -> None:
    world = World(workers=3).boot()
    world.started(world.agent)
    apps = tuple(world.apps())
    assert world.given(Fork) == [Fork(apps)]
    for worker in apps:
        world.started(worker)
    assert world.close().given(Stop) == [Stop(apps, 5.0)]


def test_ready_is_announced_once_when_the_last_app_worker_listens() -> None:
    world = World(workers=2).boot()
    world.started(world.agent)
    assert not world.started(world.app(2)).given(NotifyReady)
    assert world.started(world.app(1)).commands == [NotifyReady(None), PublishPids()]
    assert world.supervisor.phase is Phase.SERVING


def test_an_agent_that_cannot_boot_ends_the_cluster() -> None:
    world = World().boot()
    agent = world.agent
    world.exits(agent, FAILED, failure="ImportError: no\nthe rest")
    assert world.supervisor.finished
    assert world.supervisor.exit_code == 1
    assert world.supervisor.boot_failure is agent


def test_an_app_worker_that_cannot_boot_stops_all_that_was_started() -> None:
    world = World(workers=3).boot()
    world.started(world.agent)
    world.started(world.app(1))
    failing, others = world.app(2), [world.app(1), world.app(3)]
    world.exits(failing, FAILED)
    assert world.stopped() == others
    for worker in others:
        world.exits(worker, ExitReport(code=0))
    assert world.stopped() == [world.agent]
    world.exits(world.agent, ExitReport(code=0))
    assert world.supervisor.finished
    assert world.supervisor.exit_code == 1


def test_a_serving_worker_that_broke_its_channel_died_and_did_not_fail_to_start() -> None:
    world = booted(workers=1)
    worker = world.app(1)
    assert world.supervisor.channel_broke(worker, "broke the protocol: a huge length")[-1] == Kill(worker)
    world.exits(worker)
    assert worker.failure is None
    assert world.supervisor.slots[0].last_death == "it broke the protocol: a huge length"


def test_a_starting_worker_that_broke_its_channel_failed_to_start_for_that_reason() -> None:
    world = World().boot()
    world.supervisor.channel_broke(world.agent, "closed its channel")
    agent = world.agent
    world.exits(agent)
    assert agent.failure == f"{agent} died while starting (it closed its channel)"


def test_siblings_that_were_still_booting_are_no_second_error() -> None:
    world = World(workers=3).boot()
    world.started(world.agent)
    failing, booting, listening = world.apps()
    world.started(listening)
    world.exits(failing, FAILED, failure="ImportError: no")
    assert not world.exits(booting, FAILED).given(Log)
    (line,) = world.exits(listening, FAILED).given(Log)
    assert "failed while closing" in line.text, "it had started, and its failure is another one"


def test_the_first_boot_failure_is_the_one_that_is_told() -> None:
    world = World(workers=2).boot()
    world.started(world.agent)
    first, second = world.apps()
    world.exits(first, FAILED, failure="first")
    world.exits(second, FAILED, failure="second")
    assert world.supervisor.boot_failure is first


@pytest.mark.parametrize("who", ["agent", "app"])
def test_a_worker_that_dies_after_its_start_but_before_all_have_started_fails_the_boot_with_a_reason(who: str) -> None:
    world = World(workers=2).boot()
    world.started(world.agent)
    world.started(world.app(1))
    victim = world.agent if who == "agent" else world.app(1)
    world.exits(victim)
    assert world.supervisor.boot_failure is victim
    assert victim.failure is not None
    assert "SIGKILL" in victim.failure


def test_an_option_that_turns_out_wrong_in_the_worker_gives_exit_code_2() -> None:
    world = World().boot()
    world.agent.misused_option = True
    world.exits(world.agent, FAILED, failure="agent: ...")
    assert world.supervisor.exit_code == 2


def test_a_death_while_starting_has_a_reason_even_where_the_worker_gave_none() -> None:
    world = World().boot()
    agent = world.agent
    world.exits(agent, ExitReport(signal="SIGSEGV"))
    assert agent.failure == f"{agent} died while starting (code: None, signal: SIGSEGV)"


def test_a_start_that_takes_too_long_is_ended_by_force_and_fails_the_boot() -> None:
    world = World(agent_start_timeout=7).boot()
    agent = world.agent
    assert not world.pass_time(6.9).commands
    assert world.pass_time(0.2).given(Kill) == [Kill(agent)]
    assert not world.pass_time(100).given(Kill), "once is enough"
    world.exits(agent)
    assert world.supervisor.exit_code == 1
    assert "start timeout: not ready after 7s" in (agent.failure or "")


def test_a_report_of_start_that_crosses_the_kill_comes_too_late() -> None:
    world = World(workers=1, app_start_timeout=1).boot()
    world.started(world.agent)
    world.pass_time(2)
    world.started(world.app(1))
    assert world.app(1).state is WorkerState.STARTING
    assert world.supervisor.phase is Phase.APPS_BOOT


# -- guard -----------------------------------------------------------------------------------------------------


def test_an_app_worker_that_dies_is_replaced_at_once_by_a_new_generation() -> None:
    world = booted()
    old = world.app(2)
    world.exits(old)
    assert world.given(ReportDeath) == [ReportDeath(old, ExitReport(signal="SIGKILL"), "listening")]
    assert world.given(PublishPids)
    new = world.app(2)
    assert (new.slot, new.generation) == (2, old.generation + 1)
    assert new is not old


def test_the_others_are_not_touched_when_one_dies() -> None:
    world = booted(workers=4)
    world.exits(world.app(2))
    assert not world.ordered
    assert not world.killed


def test_each_restarted_worker_is_told_that_the_cluster_is_ready() -> None:
    world = booted()
    world.exits(world.app(1))
    world.started(world.app(1))
    assert world.given(NotifyReady) == [NotifyReady(world.app(1))]
    assert world.given(PublishPids)


def test_a_slot_whose_workers_keep_dying_waits_longer_each_time_but_never_more_than_15_s() -> None:
    world = booted(workers=2)
    waits = []
    for _ in range(9):
        died = world.now
        world.exits(world.app(2))
        while not world.apps(2):
            world.pass_time(0.25)
        waits.append(world.now - died)
    assert waits == [0, 0.5, 1, 2, 4, 8, 15, 15, 15]


def test_after_30_s_of_health_a_death_counts_as_the_first_again() -> None:
    world = booted(workers=2)
    for _ in range(4):
        world.exits(world.app(1)).pass_time(15)
    world.started(world.app(1)).pass_time(30)
    world.exits(world.app(1))
    assert len(world.forked()) == 1


def test_a_replacement_that_cannot_boot_is_replaced_too_and_the_cluster_serves_on() -> None:
    world = booted(workers=2)
    for _ in range(20):
        world.exits(world.app(2), FAILED, failure="SyntaxError: x").pass_time(15)
    assert world.supervisor.phase is Phase.SERVING
    assert world.app(1).state is WorkerState.LISTENING
    assert world.supervisor.slots[1].last_death == "SyntaxError: x"


def test_a_replacement_that_hangs_in_its_start_is_killed_and_replaced() -> None:
    world = booted(workers=2, app_start_timeout=5)
    world.exits(world.app(1))
    hanging = world.app(1)
    assert world.pass_time(5).given(Kill) == [Kill(hanging)]
    world.exits(hanging).pass_time(0.5)
    assert world.app(1).generation == hanging.generation + 1


def test_in_the_local_environment_a_dead_app_worker_waits_for_a_fix() -> None:
    world = booted(workers=1, replace_apps=False)
    world.exits(world.app(1)).pass_time(1000)
    assert world.apps() == []
    assert world.supervisor.phase is Phase.SERVING
    world.reload()
    assert [worker.slot for worker in world.forked()] == [1]


def test_the_agent_is_replaced_after_1_s_while_the_workers_serve_on() -> None:
    world = booted()
    died = world.agent
    world.exits(died)
    assert not world.forked()
    assert not world.pass_time(0.99).forked()
    assert world.pass_time(0.01).forked() == [world.agent]
    assert len(world.supervisor.listening_apps()) == 2
    assert world.given(PublishPids) == []
    assert world.started(world.agent).given(NotifyReady) == [NotifyReady(world.agent)]


def test_an_agent_that_keeps_dying_waits_1_2_4_8_15_s() -> None:
    world = booted()
    waits = []
    for _ in range(6):
        died = world.now
        world.exits(world.agent)
        world.pass_time(0.5)
        while not any(isinstance(worker, AgentWorker) for worker in world.living):
            world.pass_time(0.5)
        waits.append(world.now - died)
    assert waits == [1, 2, 4, 8, 15, 15]


def test_without_a_listening_app_worker_the_agent_waits_no_longer_than_1_s() -> None:
    world = booted(workers=1)
    for _ in range(6):
        world.exits(world.agent).pass_time(15)
    world.exits(world.agent).pass_time(2)
    world.exits(world.app(1))  # its successor starts, and may wait for the agent
    assert not world.pass_time(0.99).forked()
    assert world.pass_time(0.01).forked() == [world.agent]
    world.exits(world.agent)
    assert world.pass_time(1).forked() == [world.agent]
    world.started(world.app(1)).exits(world.agent)
    assert not world.pass_time(5).forked()


# -- health ----------------------------------------------------------------------------------------------------


def test_three_looks_in_a_row_at_an_empty_house_close_it_with_1() -> None:
    world = booted(workers=1, app_start_timeout=1000)
    world.exits(world.app(1))
    assert not world.pass_time(29.9).given(CloseListeners)
    assert world.pass_time(0.1).given(CloseListeners)
    assert world.supervisor.exit_code == 1


def test_one_listening_worker_in_between_starts_the_count_anew() -> None:
    world = booted(workers=1, app_start_timeout=1000)
    world.exits(world.app(1)).pass_time(25)
    world.started(world.app(1)).pass_time(10)
    world.exits(world.app(1)).pass_time(24)
    assert world.supervisor.phase is Phase.SERVING


def test_no_worker_is_missed_while_the_only_one_boots_as_slowly_as_the_last_time() -> None:
    world = World(workers=1, app_start_timeout=1000).boot()
    world.started(world.agent).pass_time(35).started(world.app(1))
    world.exits(world.app(1)).pass_time(69)
    assert world.supervisor.phase is Phase.SERVING
    world.pass_time(31)  # twice as long is not as usual any more
    assert world.supervisor.phase > Phase.SERVING


def test_no_agent_for_three_looks_is_an_error_in_the_log() -> None:
    world = booted(agent_start_timeout=1000)
    world.exits(world.agent)
    errors = [say for say in world.pass_time(30).given(Log) if say.level == logging.ERROR]
    assert [say.text for say in errors] == ["no agent has been alive for three checks in a row"]
    assert world.supervisor.phase is Phase.SERVING


def test_no_agent_for_three_looks_closes_a_strict_cluster_with_1() -> None:
    world = booted(agent_start_timeout=1000, strict=True)
    world.exits(world.agent).pass_time(30)
    assert world.supervisor.phase > Phase.SERVING
    assert world.supervisor.exit_code == 1


# -- closing ---------------------------------------------------------------------------------------------------


def test_closing_goes_from_the_app_workers_to_the_agent_to_the_end() -> None:
    world = booted(workers=2, app_close_timeout=3, agent_close_timeout=4)
    agent, one, two = world.agent, world.app(1), world.app(2)
    world.close()
    assert world.stopped() == [one, two]
    assert world.given(CloseListeners)
    assert world.ordered[one] == 3
    world.exits(two, ExitReport(code=0))
    assert not world.stopped()
    world.exits(one, ExitReport(code=0))
    assert world.stopped() == [agent]
    assert world.ordered[agent] == 4
    assert not world.supervisor.finished
    world.exits(agent, ExitReport(code=0))
    assert world.supervisor.finished
    assert world.supervisor.exit_code == 0


def test_closing_twice_changes_nothing() -> None:
    world = booted()
    assert world.close().commands
    assert not world.close().commands


def test_no_worker_is_replaced_while_closing() -> None:
    world = booted(workers=2)
    world.exits(world.app(1)).exits(world.app(1)).exits(world.agent)  # both wait for their next try
    world.close().pass_time(60)
    assert not world.forked()


def test_an_unexpected_death_while_closing_does_not_disturb_the_order() -> None:
    world = booted(workers=1)
    world.close().exits(world.agent)
    assert not world.supervisor.finished
    world.exits(world.app(1), ExitReport(code=0))
    assert world.supervisor.finished


def test_closing_while_the_agent_starts_stops_the_agent() -> None:
    world = World().boot().close()
    assert world.stopped() == [world.agent]
    world.started(world.agent)
    assert not world.forked()
    world.exits(world.agent, ExitReport(code=0))
    assert world.supervisor.finished
    assert world.supervisor.exit_code == 0


def test_workers_that_exceed_the_close_timeout_are_killed_and_the_exit_code_is_2() -> None:
    world = booted(workers=1)
    world.close()
    assert not world.pass_time(14.9).given(Kill)
    assert [kill.worker for kill in world.pass_time(0.2).given(Kill)] == [world.agent, world.app(1)]
    assert world.supervisor.finished
    assert world.supervisor.exit_code == 2


@pytest.mark.parametrize(("close", "app", "agent", "limit"), [(15, 5, 5, 15), (15, 20, 10, 35), (60, 5, 5, 60)])
def test_the_whole_closing_has_time_for_both_of_its_parts(close: float, app: float, agent: float, limit: float) -> None:
    plan = SupervisorSettings(1, close_timeout=close, app_close_timeout=app, agent_close_timeout=agent)
    assert plan.close_limit == limit


def test_cutting_it_short_kills_everybody_and_waits_only_for_their_ends() -> None:
    world = booted(workers=2)
    everybody = list(world.living)
    world.close().cut_short()
    assert {kill.worker for kill in world.given(Kill)} == set(everybody)
    for worker in everybody:
        world.exits(worker)
        assert not world.stopped()
    assert world.supervisor.finished
    assert world.supervisor.exit_code == 0


# -- reload ----------------------------------------------------------------------------------------------------


def progress(world: World) -> list[str]:
    """What the requesters of a reload are told by the last event."""
    return [line.text for line in world.given(Log) if line.progress]


def test_a_reload_replaces_slot_after_slot_the_new_worker_before_the_old() -> None:
    world = booted(workers=3)
    olds = world.apps()
    world.reload()
    for old in olds:
        assert [worker.slot for worker in world.forked()] == [old.slot], "one slot starts at a time"
        new = world.apps(old.slot)[-1]
        world.started(new)
        assert world.stopped() == [old], "it has served until the new one does"
    assert progress(world)[-1] == f"every slot has its new worker, still closing: {', '.join(map(str, olds))}"
    for old in reversed(olds):
        assert not world.given(ReloadEnded), "old workers still close"
        world.exits(old, ExitReport(code=0))
    assert world.given(ReloadEnded) == [ReloadEnded(None)]
    assert progress(world) == ["reload done"]
    assert not set(olds) & set(world.living)
    assert len(world.supervisor.listening_apps()) == 3


@pytest.mark.parametrize("most", [1, 2])
def test_a_reload_waits_while_as_many_old_workers_close_as_may(most: int) -> None:
    world = booted(workers=4, max_draining=most)
    olds = world.apps()
    world.reload()
    for old in olds[:most]:
        world.started(world.apps(old.slot)[-1])
    assert not world.forked()
    assert len(world.living) == 1 + 4 + most
    for ended, slot in zip(olds, range(most + 1, 5), strict=False):
        world.exits(ended, ExitReport(code=0))
        assert [worker.slot for worker in world.forked()] == [slot]
        world.started(world.apps(slot)[-1])
    for old in olds[4 - most :]:
        world.exits(old, ExitReport(code=0))
    assert world.given(ReloadEnded) == [ReloadEnded(None)]


def test_a_slot_that_waits_for_room_is_guarded_as_usual_and_has_its_turn() -> None:
    world = booted(workers=2, max_draining=1)
    old, other = world.apps()
    world.reload().started(world.apps(1)[-1])
    world.exits(other)
    world.started(world.app(2))
    assert not world.given(ReloadEnded)
    world.exits(old)
    assert [worker.slot for worker in world.forked()] == [2]


def test_a_slot_that_falls_empty_while_it_waits_for_room_does_not_end_the_reload() -> None:
    world = booted(workers=2, max_draining=1, replace_apps=False)
    old, other = world.apps()
    world.reload().started(world.apps(1)[-1]).exits(other)
    assert not world.given(ReloadEnded)
    world.exits(old)
    world.started(world.app(2))
    assert world.given(ReloadEnded) == [ReloadEnded(None)]


@pytest.mark.parametrize(
    ("exit", "how"),
    [
        (ExitReport(code=1), "failed while closing (code: 1, signal: None)"),
        (ExitReport(signal="SIGKILL"), "did not close in order, it was killed"),
        (ExitReport(signal="SIGSEGV"), "did not close in order, SIGSEGV ended it"),
        (ExitReport(abandoned=True), "did not close in order, it is abandoned: a thread cannot be killed"),
    ],
)
def test_a_reload_says_which_old_workers_closed_badly_and_how(exit: ExitReport, how: str) -> None:
    world = booted(workers=2)
    bad, good = world.apps()
    world.reload()
    for slot in (1, 2):
        world.started(world.apps(slot)[-1])
    world.exits(bad, exit)
    assert progress(world) == [f"{bad} {how}"]
    world.exits(good, ExitReport(code=0))
    assert progress(world) == [f"reload done, but not closed in order: {bad}"]
    assert world.given(ReloadEnded) == [ReloadEnded(None)]
    assert world.supervisor.exit_code == 0, "the cluster itself is well"


def test_a_recycled_worker_that_closes_badly_is_logged() -> None:
    world = booted(workers=1, limits=RecycleLimits(requests=10))
    old = world.app(1)
    world.loads[old] = Heartbeat(requests=10)
    world.pass_time(1).started(world.apps()[-1]).exits(old, FAILED)
    assert [line.text for line in world.given(Log)] == [f"{old} failed while closing (code: 1, signal: None)"]


def test_the_death_of_a_retired_worker_is_no_death_to_report() -> None:
    world = booted(workers=1)
    old = world.app(1)
    world.reload().started(world.apps()[-1]).exits(old)
    assert not world.given(ReportDeath)


def test_a_successor_that_does_not_boot_ends_the_reload_and_the_old_one_goes_on() -> None:
    world = booted(workers=2)
    olds = world.apps()
    world.reload().exits(world.apps(1)[-1], FAILED, failure="SyntaxError: x\nmore")
    assert world.given(ReloadEnded) == [ReloadEnded("SyntaxError: x\nmore")]
    assert world.apps() == olds
    assert world.supervisor.listening_apps() == olds
    assert not world.ordered


def test_a_successor_that_takes_too_long_ends_the_reload_even_if_it_reports_a_moment_later() -> None:
    world = booted(workers=1, app_start_timeout=5)
    old = world.app(1)
    world.reload().pass_time(5)
    late = world.apps()[-1]
    assert world.given(Kill) == [Kill(late)]
    world.started(late)
    assert not world.stopped()
    world.exits(late)
    assert "start timeout" in (world.given(ReloadEnded)[0].failure or "")
    assert world.supervisor.listening_apps() == [old]


def test_a_second_reload_follows_the_first_and_all_are_told_at_the_end_of_both() -> None:
    world = booted(workers=1)
    old = world.app(1)
    world.reload().reload()
    first = world.apps()[-1]
    world.started(first).exits(old)
    assert not world.given(ReloadEnded)
    assert len(world.forked()) == 1, "the second one begins"
    second = world.apps()[-1]
    world.started(second).exits(first)
    assert world.given(ReloadEnded) == [ReloadEnded(None)]
    assert world.apps() == [second]


def test_a_second_reload_follows_a_first_that_was_stopped_for_its_code_may_be_mended_meanwhile() -> None:
    world = booted(workers=1)
    old = world.app(1)
    world.reload().reload().exits(world.apps()[-1], FAILED, failure="SyntaxError: x")
    assert not world.given(ReloadEnded)
    mended = world.apps()[-1]
    world.started(mended).exits(old)
    assert world.given(ReloadEnded) == [ReloadEnded(None)]
    assert world.apps() == [mended]


def test_a_worker_that_dies_during_its_reload_is_followed_by_its_successor() -> None:
    world = booted(workers=1)
    world.reload()
    old, new = world.apps()
    world.exits(old)
    assert world.apps() == [new], "no third one"
    world.started(new)
    assert world.given(ReloadEnded) == [ReloadEnded(None)]


def test_a_new_worker_that_dies_while_the_old_one_closes_is_replaced_and_ends_the_step() -> None:
    world = booted(workers=1)
    world.reload()
    old, new = world.apps()
    world.started(new).exits(new)
    (third,) = world.forked()
    world.exits(old)
    assert not world.given(ReloadEnded)
    world.started(third)
    assert world.given(ReloadEnded) == [ReloadEnded(None)]


def test_a_new_worker_that_dies_in_the_local_environment_ends_the_reload() -> None:
    world = booted(workers=1, replace_apps=False)
    world.reload()
    old, new = world.apps()
    world.started(new).exits(new)
    assert [ended.failure for ended in world.given(ReloadEnded)] == [f"{new} died"]
    world.exits(old)
    assert world.reload().forked(), "the next reload is not held up"


def test_an_old_worker_that_is_slow_to_close_does_not_end_a_later_step_of_its_slot() -> None:
    world = booted(workers=1, max_draining=2)
    world.reload().reload()
    old, new = world.apps()
    world.started(new).exits(new)
    world.exits(world.apps()[-1], FAILED)  # the first reload is over, the second begins, and the old one still closes
    third = world.apps()[-1]
    world.exits(old)
    assert not world.given(ReloadEnded)
    world.started(third)
    assert world.given(ReloadEnded) == [ReloadEnded(None)]
    assert world.apps() == [third]


def test_a_replacement_that_began_before_the_reload_may_hold_the_old_version_and_is_replaced_too() -> None:
    world = booted(workers=1)
    world.exits(world.app(1)).pass_time(1)
    early = world.app(1)
    world.reload()
    assert not world.forked(), "not two that start in one slot"
    world.started(early)
    (new,) = world.forked()
    assert world.started(new).stopped() == [early]


def test_a_replacement_that_began_before_the_reload_and_fails_does_not_end_it() -> None:
    world = booted(workers=1)
    world.exits(world.app(1)).pass_time(1)
    world.reload().exits(world.app(1), FAILED).pass_time(1)
    world.started(world.app(1))
    assert world.given(ReloadEnded) == [ReloadEnded(None)]


def test_a_slot_that_waits_for_its_next_try_is_started_at_once_by_a_reload() -> None:
    world = booted(workers=2)
    for _ in range(5):
        world.exits(world.app(1)).pass_time(15)
    world.exits(world.app(1)).reload()
    assert len(world.forked()) == 1
    assert not world.pass_time(20).given(Fork)


def test_closing_during_a_reload_ends_it_and_stops_old_and_new() -> None:
    world = booted(workers=2)
    world.reload().close()
    assert world.given(ReloadEnded) == [ReloadEnded("the cluster is closing")]
    assert set(world.stopped()) == set(world.apps())
    assert len(world.apps(1)) == 2


def test_a_reload_before_the_cluster_serves_is_refused() -> None:
    world = World().boot().reload()
    assert [ended.failure for ended in world.given(ReloadEnded)] == [
        "the cluster is starting the agent; reload it when it serves"
    ]


def test_the_exit_codes_are_those_of_the_contract() -> None:
    codes = {code.name: int(code) for code in ExitCode.__members__.values()}
    assert codes == {"CLOSED": 0, "FAILED": 1, "BAD_OPTIONS": 2, "MASTER_VANISHED": 110}
    assert int(ExitCode.CLOSE_TIMEOUT) == 2
