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
    """Runs one task. Each method waits for the run's end and returns its record, whatever the outcome."""

    async def send_one(self, args: tuple[Any, ...]) -> ScheduleRun: ...
    async def send_all(self, args: tuple[Any, ...]) -> ScheduleRun: ...
    async def run_here(self, args: tuple[Any, ...]) -> ScheduleRun: ...


# The cause of a run: its trigger, and its tick in Unix seconds (None means now).
cause: ContextVar[tuple[str, float | None]] = ContextVar("cause", default=("own", None))


class ScheduleStrategy:
    """Decides when and where the tasks of one type run. Register a subclass with `agent.schedule.use(name, Strategy)`;
    tasks choose it with `type=name`.

    `terms` are the terms of the task, with its `options={...}` in `terms.options`; `logger` is the agent's logger.
    A task of a custom type needs neither `interval` nor `cron`.
    """

    def __init__(self, terms: ScheduleTerms, agent: StrategyAgent, sender: Sender) -> None:
        self.terms = terms
        self.agent = agent
        self.logger: logging.Logger = agent.logger
        self._sender = sender

    async def start(self) -> None:
        """Wait for the events that trigger the task, and send it. Runs as a background task once the cluster is ready,
        and again after it has raised. It is cancelled when the task disappears or its terms change."""

    async def handle(self) -> None:
        """Handle a tick of the task's interval or cron."""
        await self.run()

    async def run(self, *args: Any) -> ScheduleRun:
        """Run the task once, for a tick or for `run_schedule`."""
        return await self.send_one(*args)

    async def close(self) -> None:
        """Release resources, within a second, when the task disappears, its terms change, or the agent closes."""

    async def send_one(self, *args: Any) -> ScheduleRun:
        """Run the task in one listening app worker, with these arguments (what MessagePack carries).

        Wait for its end and return the run, whatever its outcome (`run.outcome`). The task's `overlap` decides
        whether it begins. Cancelling ends only the wait.
        """
        return await self._sender.send_one(args)

    async def send_all(self, *args: Any) -> ScheduleRun:
        """Run the task as `send_one` does, but in every listening app worker that has it."""
        return await self._sender.send_all(args)


class ToOne(ScheduleStrategy):
    """Type "worker": runs in one app worker."""


class ToAll(ScheduleStrategy):
    """Type "all": runs in every app worker."""

    async def run(self, *args: Any) -> ScheduleRun:
        return await self.send_all(*args)


class Here(ScheduleStrategy):
    """Type "agent": runs in the agent."""

    async def run(self, *args: Any) -> ScheduleRun:
        return await self._sender.run_here(args)


BUILT_IN: dict[str, type[ScheduleStrategy]] = {"worker": ToOne, "all": ToAll}
