"""Background tasks: functions that are started again when they break. Runs in the worker."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from eggcluster.errors import DeclarationError
from eggcluster.kernel.tasks import is_cancellation, is_cancelled
from eggcluster.model.schedule.background_state import RESTARTS, BackgroundState
from eggcluster.model.schedule.declaration import check_name, check_runs, is_function
from eggcluster.wording import described, short
from eggcluster.worker.function_calls import call_off_loop, function_name, function_place


class BackgroundTask:
    """Supervises `function`, async or plain (in a thread). `on_change` is called whenever its state is another one."""

    def __init__(
        self,
        function: Callable[[], Any],
        state: BackgroundState,
        logger: logging.Logger,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.function = function
        self.state = state
        self._logger = logger
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run it from now on."""
        self._task = asyncio.get_running_loop().create_task(self.run())

    async def stop(self, limit: float) -> None:
        """Cancel it and wait for its end, for `limit` seconds at most."""
        if self._task is None or self._task.done():
            return
        self._task.cancel()
        _, running = await asyncio.wait({self._task}, timeout=limit)
        if running:
            self._logger.error("background task %s did not stop in time", self.state.name)
        self._become("abandoned" if running else "stopped")

    async def run(self) -> None:
        """Call the function, again and again as its `restart` says. Returns when that was the last time; when it is
        cancelled, the function is cancelled and not started again, whatever its cleanup does."""
        loop = asyncio.get_running_loop()
        while True:
            self.state.begin(loop.time())
            self._on_change()
            error = await self._once()
            if is_cancelled():
                return
            delay = self.state.end(loop.time(), error)
            self._on_change()
            if delay is None:
                return
            self._logger.log(
                logging.ERROR if error else logging.WARNING,
                "background task %s %s, next try in %gs",
                self.state.name,
                "raised" if error else "returned",
                delay,
            )
            await asyncio.sleep(delay)

    async def _once(self) -> str | None:
        """Call it once; what it raised, as text, is logged with its traceback."""
        try:
            await call_off_loop(self.function)
        except BaseException as error:
            if is_cancellation(error):
                return None
            self._logger.exception("background task %s raised", self.state.name)
            return described(error)
        return None

    def _become(self, state: str) -> None:
        self.state.state = state
        self._on_change()


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
        `limit` seconds. Then the rest is cancelled, and not waited for."""
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
