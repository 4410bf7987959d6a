"""The receiving half of a messenger: what each frame causes. Runs in all workers and the parent.

A frame takes the long way (`Dispatcher.receive`), which validates all of it. There the channel learns a short cut
(`Channel.learn`), which later small frames with the same route take.
"""

import asyncio
import logging
from asyncio import Task
from collections.abc import Callable, Coroutine
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import HEADER_SIZE, Frame, RequestKey, decode_message, request_key_of
from eggcluster.ipc.handler_progress import BEGUN, FINISHED, HandlerProgress, Handling
from eggcluster.ipc.handlers import Handler, Handlers, begins_in_task
from eggcluster.ipc.incoming_requests import IncomingRequests
from eggcluster.ipc.pending_requests import PendingRequests
from eggcluster.ipc.waiting_messages import WaitingMessages
from eggcluster.kernel.tasks import is_cancellation
from eggcluster.kernel.throttle import Throttle
from eggcluster.model.messages.message import INTERNAL_ACTIONS, LIFECYCLE_ACTIONS, FrameKind
from eggcluster.model.messages.role import Address
from eggcluster.wording import short

LOG_INTERVAL = 1.0  # seconds between two log lines about dropped messages of one sender
OnEvent = Callable[[str, Any], None]

_logger = logging.getLogger("eggcluster.messenger")
# Globals, because up to Python 3.11 reading an attribute of an Enum class takes as long as a function call.
_MESSAGE, _REQUEST, _REPLY = FrameKind.MESSAGE, FrameKind.REQUEST, FrameKind.REPLY


class Dispatcher:
    """Calls handlers, answers requests, resolves pending requests. `on_event` and `progress`: see `Messenger.attach`.

    No content of a frame makes it raise: a bad frame is logged and dropped. Handlers begin in the order of their
    messages. At most MAX_UNFINISHED of them run; more messages wait here, and nothing more is read. But answers are
    read on while requests of this process wait for theirs: a handler may wait for an answer that comes behind messages.
    """

    def __init__(
        self,
        channel: Channel,
        handlers: Handlers,
        incoming: IncomingRequests,
        pending: PendingRequests,
        on_event: OnEvent | None,
        progress: HandlerProgress,
    ) -> None:
        self._channel = channel
        self._handlers = handlers
        self._incoming = incoming
        self._pending = pending
        self._on_event = on_event
        self._throttle = Throttle(LOG_INTERVAL)
        self._progress = progress
        self._waiting = WaitingMessages(channel, progress, pending, self._take)
        self._tasks: dict[Task[None], Handling] = {}
        self._loop = asyncio.get_running_loop()

    def receive(self, frame: Frame) -> None:
        """Act on one frame, or a run of messages."""
        kind = frame.kind
        try:
            if kind is _MESSAGE:
                self._receive_messages(frame)
                self._channel.learn(frame, self._take_message)
            elif kind is _REQUEST:
                self._receive_request(frame)
                self._channel.learn(frame, self._take_request)
            elif kind is FrameKind.EVENT:
                self._receive_event(frame)
            elif kind is FrameKind.CANCEL:
                if not self._incoming.cancel(frame.request_key):
                    self._waiting.cancel(frame.request_key)
            elif kind is not FrameKind.REPORT:
                self._receive_reply(frame)
        except FrameError as error:
            self._log_dropped(frame, error)

    async def wait_until_idle(self, timeout: float) -> None:
        """Wait until all messages that were read are handled, for `timeout` seconds at most."""
        deadline = self._loop.time() + timeout
        while (self._progress.unfinished or self._progress.waits) and (left := deadline - self._loop.time()) > 0:
            running = {*self._tasks, *self._incoming.running}
            await (asyncio.wait(running, timeout=left) if running else asyncio.sleep(0))

    def expect_answer(self) -> None:
        """Read on even if messages wait: this process has just made a request."""
        self._waiting.expect_answer()

    def _receive_messages(self, frame: Frame) -> None:
        progress, plain = self._progress, self._handlers.plain
        if not progress.admits(frame.count):
            return
        numbers = progress.numbers
        for body in frame.bodies() if frame.count > 1 else (frame.body,):
            if not progress.is_open:
                self._arrive(frame, body)
                continue
            try:  # in line, and not by _decode_unreserved: a call less is one part in twenty of the rate
                action, data = decode_message(body)
                if action in LIFECYCLE_ACTIONS:
                    raise _reserved(action)
            except FrameError as error:
                self._skip(frame, error)
                continue
            handlers = plain.get(action)
            if handlers is None:
                self._handle(progress.next_number(), action, data)
                continue
            progress.number = number = progress.number + 1
            numbers[BEGUN] = number
            for handler in handlers:
                self._call(handler, action, data, number)
            numbers[FINISHED] = number

    def _receive_request(self, frame: Frame) -> None:
        if self._progress.admits(1):
            self._arrive(frame, frame.body)

    def _arrive(self, frame: Frame, body: memoryview) -> None:
        if self._progress.waits or self._progress.is_full:
            self._waiting.put(frame, body)
        else:
            self._take(frame, body)

    def _take(self, frame: Frame, body: memoryview) -> None:
        """Handle one message or request, in its turn."""
        try:
            action, data = _decode_unreserved(body)
        except FrameError as error:
            self._skip(frame, error)
        else:
            number = self._progress.next_number()
            if frame.kind is _MESSAGE:
                self._handle(number, action, data)
            else:
                self._handle_request(number, frame.request_key, action, data)

    def _skip(self, frame: Frame, error: FrameError) -> None:
        self._log_dropped(frame, error)
        self._in_order(self._progress.next_number(), lambda: None)

    def _in_order(self, number: int, call: Callable[[], object]) -> None:
        """Call at once, or after the tasks that have yet to begin."""
        if self._progress.in_order:
            self._in_line(number, call)
        else:
            self._progress.expect_later()
            self._loop.call_soon(self._late, number, call)

    def _in_line(self, number: int, call: Callable[[], object]) -> None:
        numbers = self._progress.numbers
        numbers[BEGUN] = number
        call()
        numbers[FINISHED] = number

    def _late(self, number: int, call: Callable[[], object]) -> None:
        self._in_line(number, call)
        self._progress.end_later()

    # -- messages ------------------------------------------------------------------------------------------

    def _handle(self, number: int, action: str, data: Any) -> None:
        handlers = self._handlers.take(action)
        if handlers and all(map(begins_in_task, handlers)):
            for handler in handlers:
                self._start(handler, action, data, number)
        else:
            if not handlers and action not in INTERNAL_ACTIONS:
                _logger.debug("a message %s has no handler here: it is dropped", short(action))
            self._in_order(number, lambda: self._call_all(handlers, action, data, number))

    def _call_all(self, handlers: list[Handler], action: str, data: Any, number: int) -> None:
        for handler in handlers:
            self._call(handler, action, data, number)

    def _call(self, handler: Handler, action: str, data: Any, number: int) -> None:
        """Call a handler of a message that has begun; its coroutine, if it returns one, goes on in a task."""
        try:
            result = handler(data)
        except BaseException:
            _logger.exception('a handler of "%s" raised', action)
            return
        if result is not None and isinstance(result, Coroutine):
            self._run(result, action, self._progress.hold(number))

    def _start(self, handler: Handler, action: str, data: Any, number: int) -> None:
        """Let an async handler begin in a task."""
        handling = self._progress.expect(number)
        try:
            work = handler(data)
        except BaseException:
            _logger.exception('a handler of "%s" raised', action)
            self._loop.call_soon(handling.end)
        else:
            self._run(work, action, handling)

    def _run(self, work: Coroutine[Any, Any, Any], action: str, handling: Handling) -> None:
        task = self._loop.create_task(_logged(work, action, handling))
        self._tasks[task] = handling
        task.add_done_callback(self._ended)
        self._channel.flush_soon()

    def _ended(self, task: Task[None]) -> None:
        self._tasks.pop(task).end()

    # -- requests, replies, events -------------------------------------------------------------------------

    def _handle_request(self, number: int, key: RequestKey, action: str, data: Any) -> None:
        if self._waiting.cancelled and self._waiting.is_cancelled(key):
            self._in_order(number, lambda: None)
        elif self._handlers.answers_in_task(action):
            self._answer(key, action, data, self._progress.expect(number))
        else:
            self._in_order(number, lambda: self._answer_in_line(number, key, action, data))

    def _answer_in_line(self, number: int, key: RequestKey, action: str, data: Any) -> None:
        if self._incoming.handle(key, action, data, lambda: self._progress.hold(number)):
            self._channel.flush_soon()

    def _answer(self, key: RequestKey, action: str, data: Any, handling: Handling) -> None:
        if self._incoming.handle(key, action, data, lambda: handling):
            self._channel.flush_soon()
        else:
            self._loop.call_soon(handling.end)  # it could not be called

    def _receive_reply(self, frame: Frame) -> None:
        self._pending.resolve(frame)
        self._channel.flush_soon()
        if frame.kind is _REPLY:
            self._channel.learn(frame, self._take_reply)

    def _receive_event(self, frame: Frame) -> None:
        action, data = decode_message(frame.body)
        if self._on_event is not None:
            self._on_event(action, data)
        self._call_all(self._handlers.take(action), action, data, 0)

    def _log_dropped(self, frame: Frame, error: FrameError) -> None:
        """Log that a frame is dropped: one line of each sender and interval, because it may send a flood."""
        if self._throttle.allows(frame.source):
            _logger.warning("dropped a message from %s: %s", _sender_name(frame.source), error)

    # -- short cuts, learned by the channel; if one returns False, the frame goes the long way ---------------------

    def _take_message(self, raw: bytes) -> bool:
        progress = self._progress
        if not progress.is_open:
            return False
        try:
            action, data = decode_message(raw[HEADER_SIZE:])
        except FrameError:
            return False
        if action in LIFECYCLE_ACTIONS:
            return False
        if progress.may_be_fenced and not progress.admits(1):
            return True
        progress.number = number = progress.number + 1
        handlers = self._handlers.plain.get(action)
        if handlers is None:
            self._handle(number, action, data)
            return True
        progress.numbers[BEGUN] = number
        for handler in handlers:
            self._call(handler, action, data, number)
        progress.numbers[FINISHED] = number
        return True

    def _take_request(self, raw: bytes) -> bool:
        progress = self._progress
        if not progress.is_open:
            return False
        try:
            action, data = decode_message(raw[HEADER_SIZE:])
        except FrameError:
            return False
        if action in LIFECYCLE_ACTIONS:
            return False
        if progress.may_be_fenced and not progress.admits(1):
            return True
        progress.number = number = progress.number + 1
        key = request_key_of(raw)
        if action not in self._handlers.plain or self._waiting.cancelled:
            self._handle_request(number, key, action, data)
            return True
        progress.numbers[BEGUN] = number
        if self._incoming.handle(key, action, data, progress.hold_latest):
            self._channel.flush_soon()
        progress.numbers[FINISHED] = number
        return True

    def _take_reply(self, raw: bytes) -> bool:
        resolved = self._pending.resolve_raw(raw)
        self._channel.flush_soon()  # after the awaiting task has run: it is likely to send its next request
        return resolved


def _decode_unreserved(body: memoryview) -> tuple[str, Any]:
    action, data = decode_message(body)
    if action in LIFECYCLE_ACTIONS:
        raise _reserved(action)
    return action, data


def _reserved(action: str) -> FrameError:
    return FrameError(f'"{action}" does not come from the master, which alone may send it')


async def _logged(work: Coroutine[Any, Any, Any], action: str, handling: Handling) -> None:
    handling.begin()
    try:
        await work
    except BaseException as error:
        if is_cancellation(error):
            raise
        _logger.exception('a handler of "%s" raised', action)
    finally:
        handling.end()


def _sender_name(source: int) -> str:
    try:
        return str(Address.unpack(source))
    except ValueError:
        return f"{source:#x}"
