"""Requests that were made to this process: their handlers run, and what comes of it is sent back. In every child."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from eggcluster.ipc.handlers import Handlers
from eggcluster.kernel.tasks import is_cancellation
from eggcluster.model.messages.message import FrameKind
from eggcluster.wording import printable

RequestKey = tuple[int, int]  # who asks, and his number for the request

_logger = logging.getLogger("eggcluster.messenger")
_REPLY = FrameKind.REPLY


class IncomingRequests:
    """A request is answered by the first handler of its action; `reply` sends the answer to a question: who asks, and
    his number for the request."""

    def __init__(self, handlers: Handlers, reply: Callable[[RequestKey, FrameKind, Any], None]) -> None:
        self._handlers = handlers
        self._reply = reply
        self._under_way: dict[RequestKey, asyncio.Task[None]] = {}

    def give(self, question: RequestKey, action: str, data: Any) -> bool:
        """Answer at once where the handler is a plain function; True where it is one that takes a while."""
        handlers = self._handlers.take(action)
        if not handlers:
            self._reply(question, FrameKind.FAILURE, ["NoHandler", f'nobody here answers "{action}"', ""])
            return False
        try:
            result = handlers[0](data)
        except BaseException as error:
            self._fail(question, action, error)
            return False
        if result is not None and isinstance(result, Coroutine):
            self._give_later(question, action, result)
            return True
        self._reply(question, _REPLY, result)
        return False

    def cancel(self, question: RequestKey) -> None:
        """Whoever asked does not wait any more: cancel the handler."""
        if task := self._under_way.get(question):
            task.cancel()

    @property
    def under_way(self) -> set[asyncio.Task[None]]:
        """The handlers that are answering just now."""
        return set(self._under_way.values())

    def cancel_all(self) -> None:
        """Nobody can be answered any more."""
        for task in self._under_way.values():
            task.cancel()

    def _give_later(self, question: RequestKey, action: str, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(self._await(question, action, work))
        self._under_way[question] = task
        task.add_done_callback(lambda _: self._under_way.pop(question, None))

    async def _await(self, question: RequestKey, action: str, work: Coroutine[Any, Any, Any]) -> None:
        try:
            result = await work
        except BaseException as error:
            if is_cancellation(error):
                raise
            self._fail(question, action, error)
        else:
            self._reply(question, _REPLY, result)

    def _fail(self, question: RequestKey, action: str, error: BaseException) -> None:
        """To be called while `error` is being handled: its traceback travels."""
        _logger.exception('the handler of request "%s" raised', action)
        self._reply(
            question, FrameKind.FAILURE, [type(error).__name__, _text(error), printable(traceback.format_exc())]
        )


def _text(error: BaseException) -> str:
    """What the exception says; one whose own `__str__` raises says nothing."""
    try:
        return printable(str(error))
    except BaseException:
        return ""
