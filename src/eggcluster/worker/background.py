"""One background task: a function that is started again when it breaks. Runs in the worker."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from eggcluster.ipc.cancellation import is_cancellation, is_cancelled
from eggcluster.ipc.frame import printable
from eggcluster.model.background_state import BackgroundState
from eggcluster.worker.off_loop import call_off_loop

ERROR_LENGTH = 300  # characters of an exception that the status shows; the log has it whole


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


def described(error: BaseException) -> str:
    """An exception as one short line; one whose own `__str__` raises is its class's name."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    name = type(error).__name__
    return printable(f"{name}: {text}" if text else name, ERROR_LENGTH).replace("\n", " ")
