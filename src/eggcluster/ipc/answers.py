"""Requests that were made to this process: their handlers run, and what comes of it is sent back. In every child."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from eggcluster.ipc.cancellation import is_cancellation
from eggcluster.ipc.frame import Frame, printable
from eggcluster.ipc.handlers import Handlers
from eggcluster.model.message import Kind

_logger = logging.getLogger("eggcluster.messenger")


class Answers:
    """A request is answered by the first handler of its action; `reply` sends the answer to a request's frame."""

    def __init__(self, handlers: Handlers, reply: Callable[[Frame, Kind, Any], None]) -> None:
        self._handlers = handlers
        self._reply = reply
        self._under_way: dict[tuple[int, int], asyncio.Task[None]] = {}

    def give(self, frame: Frame, action: str, data: Any) -> None:
        """Answer at once where the handler is a plain function, else when it is done."""
        handlers = self._handlers.take(action)
        if not handlers:
            self._reply(frame, Kind.FAILURE, ["NoHandler", f'nobody here answers "{action}"', ""])
            return
        try:
            result = handlers[0](data)
        except BaseException as error:
            self._fail(frame, action, error)
            return
        if isinstance(result, Coroutine):
            self._give_later(frame, action, result)
        else:
            self._reply(frame, Kind.REPLY, result)

    def cancel(self, frame: Frame) -> None:
        """Whoever asked does not wait any more: cancel the handler."""
        if task := self._under_way.get((frame.source, frame.request_id)):
            task.cancel()

    def cancel_all(self) -> None:
        """Nobody can be answered any more."""
        for task in self._under_way.values():
            task.cancel()

    def _give_later(self, frame: Frame, action: str, work: Coroutine[Any, Any, Any]) -> None:
        key = (frame.source, frame.request_id)
        task = asyncio.get_running_loop().create_task(self._await(frame, action, work))
        self._under_way[key] = task
        task.add_done_callback(lambda _: self._under_way.pop(key, None))

    async def _await(self, frame: Frame, action: str, work: Coroutine[Any, Any, Any]) -> None:
        try:
            result = await work
        except BaseException as error:
            if is_cancellation(error):
                raise
            self._fail(frame, action, error)
        else:
            self._reply(frame, Kind.REPLY, result)

    def _fail(self, frame: Frame, action: str, error: BaseException) -> None:
        """To be called while `error` is being handled: its traceback travels."""
        _logger.exception('the handler of request "%s" raised', action)
        self._reply(frame, Kind.FAILURE, [type(error).__name__, _text(error), printable(traceback.format_exc())])


def _text(error: BaseException) -> str:
    """What the exception says; one whose own `__str__` raises says nothing."""
    try:
        return printable(str(error))
    except BaseException:
        return ""
