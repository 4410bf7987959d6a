"""`Agent`: what must be done once in the cluster. Runs in the agent; app workers may import it, too."""

import contextlib
from typing import TYPE_CHECKING, cast

from eggcluster.errors import MessengerClosed, RunFailed
from eggcluster.model.messages.role import Role
from eggcluster.model.schedule.schedule_run import ScheduleRun
from eggcluster.worker.context.hooks import Hooks
from eggcluster.worker.context.registrations import AgentRegistrations
from eggcluster.worker.schedule.run_receiver import require_ok
from eggcluster.worker.schedule.schedules import AgentSchedules

if TYPE_CHECKING:
    from eggcluster.worker.schedule.scheduler import Scheduler


class Agent(Hooks):
    """The object in `agent.py` at which the application registers what only one process may do.

    There is one agent in a cluster, never two at the same time. It starts before the app workers and closes after
    them. `schedule` decorates functions that run at given times, in the agent only.
    """

    role = Role.AGENT

    def _declare(self) -> AgentRegistrations:
        return AgentRegistrations(self.logger, AgentSchedules())

    @property
    def registrations(self) -> AgentRegistrations:
        return cast(AgentRegistrations, super().registrations)

    @property
    def schedule(self) -> AgentSchedules:
        """The decorator for scheduled functions, with their tasks by name."""
        return self.registrations.schedule

    @property
    def _scheduler(self) -> "Scheduler | None":
        return self.registrations.scheduler

    async def run_schedule(self, name: str) -> ScheduleRun:
        """Run a task of this cluster now, as a tick would: where its type says, if its `overlap` allows it.

        Return the run when it has ended. Raise RunFailed if it did not succeed, if there is no such task, and before
        the agent has started. Cancelling ends only the wait.
        """
        if self._scheduler is None:
            raise RunFailed("the agent has not started")
        return require_ok(name, await self._scheduler.run_now(name))

    # -- called by the worker --------------------------------------------------------------------------

    async def run_start(self) -> None:
        await super().run_start()
        # Not at the module's top: every app worker imports this file, too.
        from eggcluster.worker.schedule.journal import Journal
        from eggcluster.worker.schedule.scheduler import Scheduler

        self.schedule.close_registration()
        own = self.registrations
        journal = Journal(own.journal, self._keep, self._drain)
        own.scheduler = Scheduler(self, self.schedule, journal, own.runner)
        await own.scheduler.start()

    async def run_ready(self) -> None:
        if self._scheduler is not None:
            self._scheduler.cluster_ready()
        await super().run_ready()

    def listening_workers(self, worker_ids: list[int]) -> None:
        """Tell the scheduler which app workers listen now (`egg-pids`)."""
        if self._scheduler is not None:
            self._scheduler.listening_workers(worker_ids)

    async def end_runs(self, grace: float) -> None:
        if self._scheduler is not None:
            await self._scheduler.close(grace)

    def _keep(self, key: str, value: bytes) -> None:
        self.registrations.report("journal", {"key": key, "value": value})

    async def _drain(self) -> None:
        with contextlib.suppress(MessengerClosed):
            await self.messenger.drain()
