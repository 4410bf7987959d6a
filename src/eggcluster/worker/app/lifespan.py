"""The server's side of the ASGI lifespan protocol. Runs in the app workers.

It replaces the engine's implementation: the report of a failed boot needs the exception itself, and `on_start` runs
before the startup, `on_close` after the shutdown.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from eggcluster.errors import BootError

_logger = logging.getLogger("eggcluster.lifespan")


class Lifespan:
    """One application's lifespan: `startup` once, then `shutdown` once. Requests find `state` in their scope, with
    what was in it before and what the application adds.

    An application that raises before it asks for the first event has no lifespan, which the ASGI specification allows.
    One that raises later has failed.
    """

    def __init__(self, app: Callable[..., Any], state: dict[str, Any] | None = None) -> None:
        self.state: dict[str, Any] = {} if state is None else state
        self._app = app
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._asked = False
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._error: BaseException | None = None

    async def startup(self) -> None:
        """Wait until the application has started. Raise what it raised, or BootError with its message."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        answer = await self._tell("lifespan.startup")
        if answer is None:
            self._task = None
            if self._error is not None and self._asked:
                raise self._error
        elif answer["type"] == "lifespan.startup.failed":
            await asyncio.wait({self._task}, timeout=1.0)  # Starlette says "failed", then raises the reason
            raise self._error or BootError(f"lifespan startup failed: {answer.get('message', '')}")

    async def shutdown(self) -> bool:
        """Wait until the application has shut down. If it fails, log the reason and return False."""
        if self._task is None or self._task.done():
            return True
        answer = await self._tell("lifespan.shutdown")
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            _logger.error("lifespan shutdown failed: %s", answer.get("message", ""))
            return False
        if answer is None and self._error is not None:
            _logger.error("lifespan shutdown raised", exc_info=self._error)
            return False
        return True

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException as error:  # kept as a value: a task that raised SystemExit would end the loop at once
            self._error = error

    async def _receive(self) -> dict[str, Any]:
        self._asked = True
        return await self._events.get()

    async def _send(self, message: dict[str, Any]) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(message)

    async def _tell(self, event: str) -> dict[str, Any] | None:
        """Send an event; return the application's answer, or None if it returned or raised instead."""
        assert self._task is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": event})
        await asyncio.wait({self._task, self._answer}, return_when=asyncio.FIRST_COMPLETED)
        return self._answer.result() if self._answer.done() else None
