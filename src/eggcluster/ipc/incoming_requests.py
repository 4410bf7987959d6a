"""The requests made to this process: their handlers and replies. Runs in all workers and the parent."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from eggcluster.ipc.frame import RequestKey
from eggcluster.ipc.handler_progress import Handling
from eggcluster.kernel.tasks import is_cancellation
from eggcluster.model.messages.message import FrameKind
from eggcluster.wording import printable

_logger = logging.getLogger("eggcluster.messenger")
_REPLY = FrameKind.REPLY


class IncomingRequests:
    """Answers each request with the first handler of its action.

    `take` returns the handlers of an action (`Handlers.take`); `reply` sends the answer to a request.
    """

    def __init__(
        self,
        take: Callable[[str], Sequence[Callable[[Any], Any]]],
        reply: Callable[[RequestKey, FrameKind, Any], None],
    ) -> None:
        self._take = take
        self._reply = reply
        self._running: dict[RequestKey, asyncio.Task[None]] = {}

    def handle(self, key: RequestKey, action: str, data: Any, handling: Callable[[], Handling] | None = None) -> bool:
        """Run the handler. A plain function's result is sent at once. Return True if the handler is async: it still
        runs, and its result is sent later. `handling` is called then; its result is begun and ended with the task."""
        handlers = self._take(action)
        if not handlers:
            self._reply(key, FrameKind.FAILURE, ["NoHandler", f'no handler for the request "{action}"', ""])
            return False
        try:
            result = handlers[0](data)
        except BaseException as error:
            self._fail(key, action, error)
            return False
        if result is not None and isinstance(result, Coroutine):
            self._start(key, action, result, handling() if handling is not None else None)
            return True
        self._reply(key, _REPLY, result)
        return False

    def cancel(self, key: RequestKey) -> bool:
        """Cancel the handler: the requester does not wait any more. Return False if none runs."""
        task = self._running.get(key)
        if task is not None:
            task.cancel()
        return task is not None

    @property
    def running(self) -> set[asyncio.Task[None]]:
        """The tasks of the async handlers that have not ended."""
        return set(self._running.values())

    def cancel_all(self) -> None:
        """Cancel all handlers: no reply can be sent any more."""
        for task in self._running.values():
            task.cancel()

    def _start(self, key: RequestKey, action: str, work: Coroutine[Any, Any, Any], handling: Handling | None) -> None:
        task = asyncio.get_running_loop().create_task(self._run(key, action, work, handling))
        self._running[key] = task
        task.add_done_callback(partial(self._ended, key, handling))

    def _ended(self, key: RequestKey, handling: Handling | None, task: "asyncio.Task[None]") -> None:
        self._running.pop(key, None)
        if handling is not None:
            handling.end()

    async def _run(
        self, key: RequestKey, action: str, work: Coroutine[Any, Any, Any], handling: Handling | None
    ) -> None:
        if handling is not None:
            handling.begin()
        try:
            result = await work
        except BaseException as error:
            if is_cancellation(error):
                raise
            self._fail(key, action, error)
        else:
            self._reply(key, _REPLY, result)
        finally:
            if handling is not None:
                handling.end()

    def _fail(self, key: RequestKey, action: str, error: BaseException) -> None:
        """Log and send `error`. Call it in the `except` block: the traceback travels, too."""
        _logger.exception('the handler of request "%s" raised', action)
        self._reply(key, FrameKind.FAILURE, [type(error).__name__, _text(error), printable(traceback.format_exc())])


def _text(error: BaseException) -> str:
    """Return the exception's text; "" if its own `__str__` raises."""
    try:
        return printable(str(error))
    except BaseException:
        return ""
