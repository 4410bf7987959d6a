"""A reload of the agent, too: it goes first, stopped before the new one starts, and no other worker waits for it."""

from eggcluster.model.lives.commands import PublishPids, ReloadEnded
from eggcluster.model.lives.worker import ExitReport
from tests.unit.world import FAILED, booted

DONE = ExitReport(code=0)


def test_the_agent_is_stopped_then_started_and_then_come_the_slots() -> None:
    world = booted(workers=1)
    old, app = world.agent, world.app(1)
    assert world.reload(agent=True).stopped() == [old]
    assert not world.given(PublishPids), "it still writes to the workers' copies of what is shared"
    assert not world.forked()
    new = world.exits(old, DONE).forked()[0]
    assert world.given(PublishPids), "the app workers hear that there is none"
    assert not new.slot
    assert not world.apps()[1:]
    (successor,) = world.started(new).forked()
    world.started(successor).exits(app, DONE)
    assert world.given(ReloadEnded) == [ReloadEnded(None)]


def test_a_new_agent_that_does_not_start_ends_the_reload_and_is_tried_again() -> None:
    world = booted(workers=1)
    app = world.app(1)
    world.reload(agent=True).exits(world.agent, DONE)
    world.exits(world.agent, FAILED, failure="SyntaxError: x")
    assert world.given(ReloadEnded) == [ReloadEnded("SyntaxError: x")]
    assert world.apps() == [app], "the current app workers go on"
    assert world.pass_time(3).forked() == [world.agent]
    world.started(world.agent)
    assert not world.forked()
    assert not world.stopped()


def test_an_agent_that_waits_for_its_next_try_is_started_at_once() -> None:
    world = booted(workers=1)
    for _ in range(4):
        world.exits(world.agent, FAILED).pass_time(0.1)
        if world.supervisor.agent.next_try is not None:
            break
    assert world.reload(agent=True).forked() == [world.agent]


def test_an_agent_that_is_just_starting_is_stopped_for_it_may_hold_the_old_version() -> None:
    world = booted(workers=1)
    world.exits(world.agent).pass_time(1)
    starting = world.agent
    assert world.reload(agent=True).stopped() == [starting]
    world.exits(starting, DONE)
    assert world.forked() == [world.agent]


def test_a_second_reload_takes_the_agent_along_if_anybody_asked_for_that() -> None:
    world = booted(workers=1)
    app = world.app(1)
    world.reload().reload(agent=True).reload()
    world.started(world.apps()[-1]).exits(app, DONE)
    assert world.stopped() == [world.agent]
    assert not world.given(ReloadEnded)


def test_closing_while_the_agent_is_being_replaced_starts_no_new_one() -> None:
    world = booted(workers=1)
    world.reload(agent=True).close()
    assert world.given(ReloadEnded) == [ReloadEnded("the cluster is closing")]
    world.exits(world.agent, DONE)
    assert not world.forked()
    world.exits(world.app(1), DONE)
    assert world.supervisor.finished
