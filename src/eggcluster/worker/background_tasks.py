"""All background tasks of one worker: registered, started, reported, stopped in order. Runs in the worker."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from eggcluster.errors import DeclarationError
from eggcluster.model.background_state import RESTARTS, BackgroundState
from eggcluster.worker.background import BackgroundTask
from eggcluster.worker.off_loop import function_name, function_place


class BackgroundTasks:
    """`report` gets all their states, as plain values, soon after each change."""

    def __init__(self, logger: logging.Logger, report: Callable[[list[dict[str, Any]]], None]) -> None:
        self._logger = logger
        self._report = report
        self._tasks: list[BackgroundTask] = []
        self._reporting = False

    def add(self, function: Callable[[], Any], restart: str, name: str | None) -> None:
        """Register; DeclarationError for what is no way to restart."""
        if not callable(function):
            raise DeclarationError(f"background: {function!r} is no function")
        if restart not in RESTARTS:
            known = ", ".join(f'"{word}"' for word in RESTARTS)
            raise DeclarationError(
                f"background task {function_place(function)}: restart={restart!r} is none of {known}"
            )
        state = BackgroundState(name or function_name(function), restart)
        self._tasks.append(BackgroundTask(function, state, self._logger, self._changed))

    def start(self) -> None:
        """Start them in the order of their registration."""
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

    def _changed(self) -> None:
        """Several changes of one turn of the loop are one report."""
        if not self._reporting:
            self._reporting = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._reporting = False
        self._report(self.plain())
