"""All background tasks of one worker: registered, started, reported, stopped in order. Runs in the worker."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from eggcluster.errors import DeclarationError
from eggcluster.model.background_state import RESTARTS, BackgroundState
from eggcluster.model.declaration import check_name, check_runs, is_function, short
from eggcluster.worker.background import BackgroundTask
from eggcluster.worker.off_loop import function_name, function_place


class BackgroundTasks:
    """`report` gets all their states, as plain values, soon after each change."""

    def __init__(self, logger: logging.Logger, report: Callable[[list[dict[str, Any]]], None]) -> None:
        self._logger = logger
        self._report = report
        self._tasks: list[BackgroundTask] = []
        self._reporting = False
        self._started = False

    def add(self, function: Callable[[], Any], restart: str, name: str | None) -> None:
        """Register; DeclarationError for what does not run when it is called, for a name or a way to restart that is
        none, for a name that another one has, and once the tasks have been started."""
        if not is_function(function):
            raise DeclarationError(f"background: {short(function)} is no function")
        try:
            check_runs(function)
            name = check_name(function_name(function) if name is None else name)
            self._check(name, restart)
        except ValueError as error:
            raise DeclarationError(f"background task {function_place(function)}: {error}") from None
        self._append(function, name, restart)

    def copy_to(self, other: "BackgroundTasks") -> None:
        """Register the same with `other`."""
        for task in self._tasks:
            other._append(task.function, task.state.name, task.state.restart)

    def start(self) -> None:
        """Start them in the order of their registration; no more may come."""
        self._started = True
        for task in self._tasks:
            task.start()

    async def stop(self, limit: float) -> None:
        """Stop one after the other, the last registered first, each with time to finish; all of them together get
        `limit` seconds. Then the rest is cancelled, and nobody waits for it."""
        now = asyncio.get_running_loop().time
        deadline = now() + limit
        for task in reversed(self._tasks):
            await task.stop(max(0.0, deadline - now()))

    def plain(self) -> list[dict[str, Any]]:
        """Their states, as plain values."""
        return [task.state.plain() for task in self._tasks]

    def _append(self, function: Callable[[], Any], name: str, restart: str) -> None:
        state = BackgroundState(name, restart)
        self._tasks.append(BackgroundTask(function, state, self._logger, self._changed))

    def _check(self, name: str, restart: str) -> None:
        if self._started:
            raise ValueError("it comes too late: background tasks are registered until on_start is done")
        if restart not in RESTARTS:
            known = ", ".join(f'"{word}"' for word in RESTARTS)
            raise ValueError(f"restart={short(restart)} is none of {known}")
        for other in self._tasks:
            if other.state.name == name:
                raise ValueError(
                    f'"{name}" is also the name of {function_place(other.function)}: give one another name='
                )

    def _changed(self) -> None:
        """Several changes of one turn of the loop are one report."""
        if not self._reporting:
            self._reporting = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._reporting = False
        self._report(self.plain())
