"""A worker that a template forks, while it is pending: templates that die, hang or refuse, and ends that come early."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.process_adoption import reap_adopted
from eggcluster.kernel.process_tree import children_of, is_running
from eggcluster.model.lives.worker import ExitReport
from eggcluster.modes import template_handle
from eggcluster.modes.template_starter import TemplateStarter
from eggcluster.modes.worker_handle import StopOutcome, WorkerHandle
from tests.modes.test_contract import FORKED, PLAIN, Worker, Workshop, adopting
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are no templates")

RUNS = PLAIN + "(here / 'ran').touch()\n"


class Forge(Workshop):
    """Forks agents, also without waiting for them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FORKED, folder)
        self.starter = TemplateStarter(lambda: None)
        self.children_before = {*children_of(os.getpid())}  # left by other tests, perhaps

    def order(self) -> WorkerHandle:
        """Ask for an agent that writes the file `ran`."""
        (self.folder / "agent.py").write_text(RUNS)
        return self.starter.start(WorkerSpec("agent", 0, 1, self._cluster(), self._options()), ())

    async def stopped_template(self) -> int:
        """The pid of a template that has started and does not run."""
        await (await self.agent(PLAIN)).report()
        [pid] = self.starter.own_pids
        os.kill(pid, signal.SIGSTOP)
        return pid

    async def use(self, handle: WorkerHandle) -> None:
        """The worker lives, as a child of this process."""
        worker = Worker(handle)
        self._workers.append(worker)
        assert (await (await worker.connect()).report())[0] == "agent-start"
        assert handle.worker_id in children_of(os.getpid())


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    before = children_of(os.getpid())
    with adopting():
        yield Forge(tmp_path)
    reap_adopted(set())
    assert children_of(os.getpid()) == before


def test_a_worker_is_started_in_another_way_if_its_template_dies(forge: Forge) -> None:
    async def work() -> None:
        template = await forge.stopped_template()
        handle = forge.order()
        assert forge.starter.is_pending
        assert handle.worker_id == 0
        os.kill(template, signal.SIGKILL)
        await forge.use(handle)
        assert not forge.starter.is_pending

    forge.run(work())


def test_a_template_that_does_not_answer_is_killed(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        template = await forge.stopped_template()
        monkeypatch.setattr(template_handle, "FORK_TIMEOUT", 0.1)
        await forge.use(forge.order())
        await until(lambda: not is_running(template), "the template is gone")

    forge.run(work())


@pytest.mark.parametrize("how", ["stop", "abort", "kill"])
def test_a_worker_that_is_ended_while_it_is_pending_never_runs(forge: Forge, how: str) -> None:
    async def work() -> None:
        template = await forge.stopped_template()
        handle = forge.order()
        exit = asyncio.ensure_future(handle.wait_exit())
        ending = asyncio.ensure_future(end(handle, how))
        await handle.wait_start()
        await ending
        assert await exit == ExitReport(code=0)
        handle.channel.close()
        handle.heartbeat_page.close()
        os.kill(template, signal.SIGCONT)
        await until(lambda: not forge.starter.is_pending, "the template has answered")
        known = {template, *forge.children_before, *(worker.handle.worker_id for worker in forge._workers)}
        await until(lambda: {*children_of(os.getpid())} <= known, "the fork has ended")
        assert not (forge.folder / "ran").exists()

    forge.run(work())


async def end(handle: WorkerHandle, how: str) -> None:
    await asyncio.sleep(0)  # `wait_exit` waits already
    if how == "stop":
        assert await handle.stop(grace=10) is StopOutcome.GRACEFUL
    elif how == "abort":
        await handle.abort()
    else:
        handle.kill()


def test_a_worker_that_the_system_refuses_its_template_is_refused(forge: Forge) -> None:
    async def work() -> None:
        template = await forge.stopped_template()
        resource.prlimit(template, resource.RLIMIT_NOFILE, (4, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        os.kill(template, signal.SIGCONT)
        handle = forge.order()
        with pytest.raises(OSError, match="the template has no file descriptor left"):
            await handle.wait_start()
        handle.channel.close()
        handle.heartbeat_page.close()

    forge.run(work())
