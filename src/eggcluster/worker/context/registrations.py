"""The registrations and the state that an `Agent` or `Application` has in one worker. Runs in agent and app workers.

Workers that are threads share the object. What its module registers is copied for each of them; what a worker registers
later, for instance an `on_close` within an `on_start`, holds for that worker only.
"""

import logging
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from eggcluster.ipc.internal_messenger import InternalMessenger
from eggcluster.kernel.awaitable_event import AwaitableEvent
from eggcluster.worker.background import BackgroundTasks
from eggcluster.worker.schedule.run_receiver import RunReceiver
from eggcluster.worker.schedule.runner import Runner
from eggcluster.worker.schedule.schedules import AgentSchedules, Schedules

if TYPE_CHECKING:
    from eggcluster.ipc.key_table import OwnKeys
    from eggcluster.worker.schedule.scheduler import Scheduler


Hook = Callable[..., Any]


class Registrations:
    """`slot`, `worker_id` and `generation` are 0 and `env` is empty outside of a cluster. `report` tells the master."""

    def __init__(self, logger: logging.Logger, schedule: Schedules) -> None:
        self.slot = 0
        self.worker_id = 0
        self.generation = 0
        self.env = ""
        self.closing = AwaitableEvent()
        self.drained = AwaitableEvent()
        self.local = SimpleNamespace()
        self.report: Callable[[str, dict[str, Any]], None] = lambda action, details: None
        self.fork_hooks: list[Hook] = []
        self.start_hooks: list[Hook] = []
        self.ready_hooks: list[Hook] = []
        self.close_hooks: list[Hook] = []
        self.background = BackgroundTasks(
            logger, lambda tasks: self.report("background", {"tasks": tasks}), self.closing.is_set
        )
        self.schedule = schedule
        self.runner = Runner(logger)
        self._logger = logger

    def copy(self) -> Self:
        """Return the same registrations for another worker, with nothing running."""
        other = type(self)(self._logger, self.schedule.copy())
        self._copy_to(other)
        return other

    def _copy_to(self, other: "Registrations") -> None:
        other.fork_hooks = self.fork_hooks[:]
        other.start_hooks = self.start_hooks[:]
        other.ready_hooks = self.ready_hooks[:]
        other.close_hooks = self.close_hooks[:]
        self.background.copy_to(other.background)


class AppRegistrations(Registrations):
    """The registrations of an `Application`."""

    def __init__(self, logger: logging.Logger, schedule: Schedules) -> None:
        super().__init__(logger, schedule)
        self.preload_hooks: list[Hook] = []
        self.server_hooks: list[Hook] = []
        self.run_receiver: RunReceiver | None = None
        self.own_keys: OwnKeys | None = None

    def _copy_to(self, other: Registrations) -> None:
        super()._copy_to(other)
        assert isinstance(other, AppRegistrations)
        other.server_hooks = self.server_hooks[:]

    def open_schedule(self, messenger: InternalMessenger, loaded_at: float) -> RunReceiver:
        """Answer the agent's run requests from now on."""
        self.run_receiver = RunReceiver(messenger, self.schedule, self.runner)
        self.run_receiver.open(self.worker_id, self.slot, self.generation, loaded_at)
        return self.run_receiver


class AgentRegistrations(Registrations):
    """The registrations of an `Agent`. `journal` is what its predecessor left for it."""

    schedule: AgentSchedules

    def __init__(self, logger: logging.Logger, schedule: Schedules) -> None:
        super().__init__(logger, schedule)
        self.journal: Mapping[str, bytes] = {}
        self.scheduler: Scheduler | None = None
