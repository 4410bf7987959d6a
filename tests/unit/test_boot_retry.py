"""A boot that goes on when files change, as `dev` has it: what could not start is started again."""

from eggcluster.model.lives.commands import Log, NotifyReady, ReloadEnded
from eggcluster.model.lives.phase import Phase
from eggcluster.model.lives.worker import ExitReport
from tests.unit.world import FAILED, World

DONE = ExitReport(code=0)


def booting(workers: int = 1) -> World:
    return World(workers=workers, retries_boot=True, replace_apps=False).boot()


def with_agent(workers: int = 1) -> World:
    world = booting(workers)
    return world.started(world.agent)


def test_an_app_worker_that_cannot_start_waits_for_a_change() -> None:
    world = with_agent()
    world.exits(world.app(1), FAILED, failure="SyntaxError: x")
    assert world.supervisor.phase is Phase.APPS_BOOT
    assert "started again when its files change" in world.given(Log)[0].text
    assert not world.pass_time(100).forked()
    (again,) = world.reload().forked()
    assert world.started(again).given(NotifyReady) == [NotifyReady(None)], "the cluster serves"
    assert not world.forked(), "it runs the new version already"


def test_so_does_an_agent() -> None:
    world = booting()
    world.exits(world.agent, FAILED, failure="SyntaxError: x")
    assert not world.pass_time(100).forked()
    (again,) = world.reload(agent=True).forked()
    assert not again.slot
    (app,) = world.started(again).forked()
    assert app.slot == 1
    assert not world.started(app).forked(), "neither is older than the change"


def test_requesters_learn_how_the_boot_ended() -> None:
    world = with_agent()
    assert not world.exits(world.app(1), FAILED, failure="SyntaxError: x").given(ReloadEnded)
    world.reload()
    assert world.exits(world.app(1), FAILED, failure="NameError: y").given(ReloadEnded) == [ReloadEnded("NameError: y")]
    world.reload()
    assert world.started(world.app(1)).given(ReloadEnded) == [ReloadEnded(None)]


def test_a_change_while_a_worker_starts_starts_it_again_when_it_fails() -> None:
    world = with_agent()
    assert not world.reload().forked()
    (again,) = world.exits(world.app(1), FAILED, failure="SyntaxError: x").forked()
    assert not world.started(again).forked()


def test_a_change_while_a_worker_starts_is_a_reload_once_it_serves() -> None:
    world = with_agent()
    world.reload()
    world.started(world.app(1))
    assert [worker.slot for worker in world.forked()] == [1]


def test_an_agent_of_the_older_version_is_replaced_after_the_boot() -> None:
    world = with_agent()
    old = world.agent
    world.exits(world.app(1), FAILED, failure="SyntaxError: x")
    (again,) = world.reload(agent=True).forked()
    (successor,) = world.started(again).forked()
    assert successor.slot == 1
    assert old in world.started(successor).stopped()


def test_it_closes_as_ever_while_it_waits() -> None:
    world = with_agent()
    world.exits(world.app(1), FAILED, failure="SyntaxError: x")
    assert world.close().stopped() == [world.agent]
    world.exits(world.agent, DONE)
    assert world.supervisor.finished
    assert world.supervisor.exit_code == 0


def test_a_worker_that_dies_after_its_start_still_ends_the_boot() -> None:
    world = with_agent(workers=2)
    world.started(world.app(1))
    world.exits(world.app(1))
    assert world.supervisor.phase is Phase.APPS_STOP
