"""Strategies: what a task's type means. Runs in the agent, one object for each task."""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Protocol

from eggcluster.ipc.messenger import Messenger
from eggcluster.model.schedule.schedule_run import ScheduleRun
from eggcluster.model.schedule.schedule_terms import ScheduleTerms


class StrategyAgent(Protocol):
    """The agent as a strategy uses it; it is the application's own `Agent`."""

    messenger: Messenger
    logger: logging.Logger

    @property
    def env(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def local(self) -> SimpleNamespace: ...
    @property
    def shared(self) -> Any: ...
    @property
    def closing(self) -> threading.Event: ...
    def cluster(self, cls: type[Any], *, name: str | None = None, timeout: float = 5.0) -> Any: ...


class Sender(Protocol):
    """What runs one task: each waits for the run's end, and gives its record, whatever has become of it."""

    async def send_one(self, args: tuple[Any, ...]) -> ScheduleRun: ...
    async def send_all(self, args: tuple[Any, ...]) -> ScheduleRun: ...
    async def run_here(self, args: tuple[Any, ...]) -> ScheduleRun: ...


# What has brought a run about: the trigger, and its tick in Unix seconds (None: now).
cause: ContextVar[tuple[str, float | None]] = ContextVar("cause", default=("own", None))


class ScheduleStrategy:
    """Subclass it and make it known with `agent.schedule.use(name, Strategy)`; tasks choose it with `type=name`.

    `terms` are the task's, `terms.options` what was given as `options={...}`; `agent` is the agent, `logger` its
    logger. `interval` and `cron` need not be given for a type of one's own.
    """

    def __init__(self, terms: ScheduleTerms, agent: StrategyAgent, sender: Sender) -> None:
        self.terms = terms
        self.agent = agent
        self.logger: logging.Logger = agent.logger
        self._sender = sender

    async def start(self) -> None:
        """Awaited as a background task from the cluster's readiness on, and again after it has raised: wait here for
        whatever brings the task about, and send it. It is cancelled when the task is gone, or its terms change."""

    async def handle(self) -> None:
        """A tick of the task's interval or cron has come."""
        await self.run()

    async def run(self, *args: Any) -> ScheduleRun:
        """Run it once: what a tick does, and `run_schedule`."""
        return await self.send_one(*args)

    async def close(self) -> None:
        """Awaited, for a second at most, when the task is gone, its terms change, or the agent closes."""

    async def send_one(self, *args: Any) -> ScheduleRun:
        """Run the task in one listening app worker, with these arguments (what MessagePack carries).

        Waits for its end and gives the run, whatever has become of it (`run.outcome`); the task's `overlap` decides
        whether it begins. Cancelling stops the waiting alone.
        """
        return await self._sender.send_one(args)

    async def send_all(self, *args: Any) -> ScheduleRun:
        """As `send_one`, in every listening app worker that has the task."""
        return await self._sender.send_all(args)


class ToOne(ScheduleStrategy):
    """Type "worker"."""


class ToAll(ScheduleStrategy):
    """Type "all"."""

    async def run(self, *args: Any) -> ScheduleRun:
        return await self.send_all(*args)


class Here(ScheduleStrategy):
    """The agent's own tasks."""

    async def run(self, *args: Any) -> ScheduleRun:
        return await self._sender.run_here(args)


BUILT_IN: dict[str, type[ScheduleStrategy]] = {"worker": ToOne, "all": ToAll}
