"""Background tasks: functions that run beside the requests, restarted when they fail. Runs in agent and app workers."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from eggcluster.errors import DeclarationError
from eggcluster.kernel.tasks import is_cancellation, is_cancelled, turn_time
from eggcluster.model.schedule.background_state import RESTARTS, BackgroundState
from eggcluster.model.schedule.declaration import check_name, check_runs, is_function
from eggcluster.wording import described, short
from eggcluster.worker.function_calls import call_off_loop, function_name, function_place


class BackgroundTask:
    """Supervises `function`, async or plain (in a thread). `on_change` is called after each change of its state.

    A function that returns while `is_closing()` has stopped in order, and is not restarted.
    """

    def __init__(
        self,
        function: Callable[[], Any],
        state: BackgroundState,
        logger: logging.Logger,
        on_change: Callable[[], None] = lambda: None,
        is_closing: Callable[[], bool] = lambda: False,
    ) -> None:
        self.function = function
        self.state = state
        self._logger = logger
        self._on_change = on_change
        self._is_closing = is_closing
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the function as a task of the running loop."""
        self._task = asyncio.get_running_loop().create_task(self.run())

    async def stop(self, limit: float) -> None:
        """Cancel the function and wait at most `limit` seconds for its end."""
        if self._task is None or self._task.done():
            return
        self._task.cancel()
        _, running = await asyncio.wait({self._task}, timeout=limit)
        if running:
            self._logger.error("background task %s did not stop in time", self.state.name)
        self._become("abandoned" if running else "stopped")

    async def run(self) -> None:
        """Call the function, and restart it as its `restart` says; return when it is not restarted any more. Cancelling
        also cancels the function, and ends the restarts whatever the function's cleanup does."""
        loop = asyncio.get_running_loop()
        while True:
            self.state.begin(loop.time())
            self._on_change()
            error = await self._once()
            if is_cancelled():
                return
            if error is None and self._is_closing():
                self._become("stopped")  # it has seen that the worker closes
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
        """Call the function once. Log what it raises, and return that as text."""
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
    """The background tasks of one worker. `report` gets all their states, as plain values, soon after each change."""

    def __init__(
        self,
        logger: logging.Logger,
        report: Callable[[list[dict[str, Any]]], None],
        is_closing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._logger = logger
        self._is_closing = is_closing
        self._report = report
        self._tasks: list[BackgroundTask] = []
        self._reporting = False
        self._started = False

    def add(self, function: Callable[[], Any], restart: str, name: str | None) -> None:
        """Register a function. Raise DeclarationError for an object that does not run when it is called, for an invalid
        name or `restart`, for a name that is taken, and after the tasks have been started."""
        if not is_function(function):
            raise DeclarationError(f"background: {short(function)} is not a function")
        try:
            check_runs(function)
            name = check_name(function_name(function) if name is None else name)
            self._check(name, restart)
        except ValueError as error:
            raise DeclarationError(f"background task {function_place(function)}: {error}") from None
        self._append(function, name, restart)

    def copy_to(self, other: "BackgroundTasks") -> None:
        """Register the same functions with `other`."""
        for task in self._tasks:
            other._append(task.function, task.state.name, task.state.restart)

    def start(self) -> None:
        """Start all tasks in the order of their registration; refuse further registrations."""
        self._started = True
        for task in self._tasks:
            task.start()

    async def stop(self, limit: float) -> None:
        """Stop the tasks one after the other, the last registered first, within `limit` seconds in all. One that is
        slow does not take the others' time for their cleanup: see `turn_time`."""
        now = asyncio.get_running_loop().time
        deadline = now() + limit
        for following, task in reversed([*enumerate(self._tasks)]):
            await task.stop(turn_time(deadline - now(), following))

    def plain(self) -> list[dict[str, Any]]:
        """Return the states of all tasks as plain values."""
        return [task.state.plain() for task in self._tasks]

    def _append(self, function: Callable[[], Any], name: str, restart: str) -> None:
        state = BackgroundState(name, restart)
        self._tasks.append(BackgroundTask(function, state, self._logger, self._changed, self._is_closing))

    def _check(self, name: str, restart: str) -> None:
        if self._started:
            raise ValueError("too late: register background tasks before on_start is done")
        if restart not in RESTARTS:
            known = ", ".join(f'"{word}"' for word in RESTARTS)
            raise ValueError(f"restart={short(restart)} is not one of {known}")
        for other in self._tasks:
            if other.state.name == name:
                place = function_place(other.function)
                raise ValueError(f'"{name}" is also the name of {place}: give one of them another name=')

    def _changed(self) -> None:
        """Report soon: several changes in one turn of the loop make one report."""
        if not self._reporting:
            self._reporting = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._reporting = False
        self._report(self.plain())
