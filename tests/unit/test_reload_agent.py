"""A reload of the agent, too: once one app worker of the new version has booted, and stopped before the next starts."""

from eggcluster.model.lives.commands import Log, PublishPids, ReloadEnded
from eggcluster.model.lives.worker import ExitReport, Worker
from tests.unit.world import FAILED, World, booted

DONE = ExitReport(code=0)


def tried(world: World) -> Worker:
    """A reload with the agent is under way, and the new worker of slot 1 has booted; gives it."""
    old = world.app(1)
    assert not world.reload(agent=True).stopped(), "the new version is tried before anything is stopped"
    (successor,) = world.forked()
    assert successor.slot == 1
    assert world.started(successor).stopped() == [old, world.agent]
    world.exits(old, DONE)
    return successor


def said(world: World) -> str:
    """How the log tells the end of a reload."""
    return world.given(Log)[0].text


def test_one_app_worker_is_tried_and_then_come_the_agent_and_the_other_slots() -> None:
    world = booted(workers=2).pass_time(1)
    tried(world)
    old = world.agent
    assert not world.given(PublishPids) or old in world.living, "it still writes to the workers' copies"
    new = world.exits(old, DONE).forked()[0]
    assert world.given(PublishPids), "the app workers hear that there is none"
    assert not new.slot
    (second,) = world.started(new).forked()
    assert second.slot == 2
    world.started(second)
    world.exits(world.apps(2)[0], DONE)
    assert world.given(ReloadEnded) == [ReloadEnded(None)]


def test_a_version_that_does_not_boot_leaves_the_agent_alone() -> None:
    world = booted(workers=2).pass_time(1)
    agent, apps = world.agent, world.apps()
    (new,) = world.reload(agent=True).forked()
    world.exits(new, FAILED, failure="SyntaxError: x\nat line 3")
    assert world.given(ReloadEnded) == [ReloadEnded("SyntaxError: x\nat line 3")]
    assert said(world).startswith("reload stopped, the current workers go on: SyntaxError: x")
    assert world.agent is agent
    assert world.apps() == apps
    assert not world.stopped()


def test_a_new_agent_that_does_not_start_ends_the_reload_and_is_tried_again() -> None:
    world = booted(workers=3).pass_time(1)
    new = tried(world)
    world.exits(world.agent, DONE)
    world.exits(world.agent, FAILED, failure="SyntaxError: x")
    assert world.given(ReloadEnded) == [ReloadEnded("SyntaxError: x")]
    what = "new version: app_worker#1; old version: app_worker#2, app_worker#3; no worker: agent_worker"
    assert said(world) == f"reload stopped half-way ({what}): SyntaxError: x"
    assert new in world.apps()
    assert world.pass_time(3).forked() == [world.agent]
    world.started(world.agent)
    assert not world.forked()
    assert not world.stopped()


def test_a_later_slot_that_does_not_start_leaves_a_mixture_that_is_told() -> None:
    world = booted(workers=3).pass_time(1)
    tried(world)
    world.exits(world.agent, DONE).started(world.agent)
    (second,) = (worker for worker in world.apps(2) if worker.generation == 2)
    world.exits(second, FAILED, failure="OSError: no memory")
    what = "new version: app_worker#1, agent_worker; old version: app_worker#2, app_worker#3"
    assert said(world) == f"reload stopped half-way ({what}): OSError: no memory"


def test_an_agent_that_waits_for_its_next_try_is_started_at_once() -> None:
    world = booted(workers=1)
    for _ in range(4):
        world.exits(world.agent, FAILED).pass_time(0.1)
        if world.supervisor.agent.next_try is not None:
            break
    (new,) = world.reload(agent=True).forked()
    forked = world.started(new).forked()
    assert world.agent in forked


def test_an_agent_that_is_just_starting_is_stopped_for_it_may_hold_the_old_version() -> None:
    world = booted(workers=1)
    world.exits(world.agent).pass_time(1)
    starting = world.agent
    (new,) = world.reload(agent=True).forked()
    assert starting in world.started(new).stopped()
    world.exits(starting, DONE)
    assert world.forked() == [world.agent]


def test_a_second_reload_takes_the_agent_along_if_anybody_asked_for_that() -> None:
    world = booted(workers=1)
    app = world.app(1)
    world.reload().reload(agent=True).reload()
    world.started(world.apps()[-1]).exits(app, DONE)
    assert not world.given(ReloadEnded)
    (second,) = world.forked()
    assert world.agent in world.started(second).stopped()


def test_closing_while_the_agent_is_being_replaced_starts_no_new_one() -> None:
    world = booted(workers=1)
    tried(world)
    world.close()
    assert world.given(ReloadEnded) == [ReloadEnded("the cluster is closing")]
    world.exits(world.agent, DONE)
    assert not world.forked()
    world.exits(world.app(1), DONE)
    assert world.supervisor.finished


def test_a_slot_that_stays_empty_while_the_agent_is_replaced_ends_the_reload_after_it() -> None:
    world = booted(workers=2, replace_apps=False).pass_time(1)
    old = world.app(1)
    (new,) = world.reload(agent=True).forked()
    world.started(new)  # the old worker of slot 1 still closes
    agent = world.agent
    world.exits(new, FAILED, failure="OSError: x")
    assert not world.given(ReloadEnded), "the agent has been stopped, and a new one must come first"
    (successor,) = world.exits(agent, DONE).forked()
    assert world.started(successor).given(ReloadEnded) == [ReloadEnded("OSError: x")]
    world.exits(old, DONE)
    assert world.agent is successor
