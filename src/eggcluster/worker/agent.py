"""The agent: what must be done once in the cluster. Runs in the agent worker."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from eggcluster.model.interval import parse_interval
from eggcluster.model.role import Role
from eggcluster.worker.hooks import Hooks
from eggcluster.worker.schedule import run_every

_F = TypeVar("_F", bound=Callable[[], Any])


class Agent(Hooks):
    """One object in `agent.py`, on which the application hangs what only one process may do.

    There is one agent in a cluster, never two at the same time. It starts before the app workers and closes after
    them.
    """

    role = Role.AGENT

    def __init__(self) -> None:
        super().__init__()
        self._schedules: list[tuple[float, bool, Callable[[], Any]]] = []

    def schedule(self, interval: str | float | timedelta, *, immediate: bool = False) -> Callable[[_F], _F]:
        """Call the decorated function every `interval` ("500ms", "10s", "5m", "2h", "1d", seconds, a timedelta),
        the first time one interval after the agent's start, or at its start where `immediate`.

        It never overlaps itself. ValueError for what is no interval.
        """
        seconds = parse_interval(interval)

        def decorate(function: _F) -> _F:
            self._schedules.append((seconds, immediate, function))
            return function

        return decorate

    def _start_background(self) -> None:
        super()._start_background()
        for seconds, immediate, function in self._schedules:
            work = run_every(seconds, function, self.logger, immediate=immediate)
            self._tasks.append(asyncio.get_running_loop().create_task(work))
