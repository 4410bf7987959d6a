"""The receiving half of a messenger: its handlers, and what each frame causes. Runs in all workers and the parent.

A frame takes the long way (`Dispatcher.receive`), which validates all of it. There the channel learns a short cut
(`Channel.learn`), which later small frames with the same route take.
"""

import inspect
import logging
from asyncio import Task
from collections.abc import Callable, Coroutine
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import HEADER_SIZE, Frame, RequestKey, decode_message, request_key_of
from eggcluster.ipc.incoming_requests import IncomingRequests
from eggcluster.ipc.pending_requests import PendingRequests
from eggcluster.kernel.tasks import TaskSet, is_cancellation
from eggcluster.kernel.throttle import Throttle
from eggcluster.model.messages.message import INTERNAL_ACTIONS, LIFECYCLE_ACTIONS, FrameKind
from eggcluster.model.messages.role import Address
from eggcluster.wording import short

REPORT_EVERY = 64  # messages of a flood after which the number of read messages is reported again
LOG_INTERVAL = 1.0  # seconds between two log lines about dropped messages of one sender
Handler = Callable[[Any], Any]
OnEvent = Callable[[str, Any], None]

_logger = logging.getLogger("eggcluster.messenger")
# Globals, because up to Python 3.11 reading an attribute of an Enum class takes as long as a function call.
_MESSAGE, _REQUEST, _REPLY = FrameKind.MESSAGE, FrameKind.REQUEST, FrameKind.REPLY


class Handlers:
    """The handlers of each action, in the order of their registration: the registry behind `on`, `once` and `off`.

    A function may be registered once per action.
    """

    def __init__(self) -> None:
        self._by_action: dict[str, dict[Handler, bool]] = {}  # handler -> whether it is called only once
        self._lasting: dict[str, list[Handler]] = {}  # a cache, for actions without a handler that is called only once

    def add(self, action: str, handler: Handler, *, once: bool = False) -> None:
        """Register a handler; TypeError if it cannot be called with one argument, or the action is not a string."""
        if not isinstance(action, str):
            raise TypeError(f"an action is a string, not {action!r}")
        check_handler(handler)
        self._lasting.pop(action, None)
        self._by_action.setdefault(action, {})[handler] = once

    def discard(self, action: str, handler: Handler | None = None) -> None:
        """Remove one handler of the action, or (None) all of them. A handler that is not registered is no error."""
        self._lasting.pop(action, None)
        if handler is None:
            self._by_action.pop(action, None)
        elif action in self._by_action:
            self._by_action[action].pop(handler, None)
            self._tidy(action)

    def take(self, action: str) -> list[Handler]:
        """Return the handlers to call now, and remove those that are called only once."""
        lasting = self._lasting.get(action)
        if lasting is not None:
            return lasting
        registered = self._by_action.get(action)
        if not registered:
            return []
        handlers = list(registered)
        if not any(registered.values()):
            self._lasting[action] = handlers
            return handlers
        for handler in handlers:
            if registered[handler]:
                del registered[handler]
        self._tidy(action)
        return handlers

    def _tidy(self, action: str) -> None:
        """Remove an action without handlers: an application may invent a new action for each answer."""
        if not self._by_action[action]:
            del self._by_action[action]


def check_handler(handler: Handler) -> None:
    """Raise TypeError if `handler` cannot take exactly one argument, the data."""
    if not callable(handler):
        raise TypeError(f"a handler is a function of one argument, the data, not {handler!r}")
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return  # some built-in functions have no signature
    try:
        signature.bind(None)
    except TypeError:
        name = getattr(handler, "__qualname__", repr(handler))
        raise TypeError(f"{name}{signature} cannot be a handler: it must take one argument, the data") from None


class Dispatcher:
    """Calls handlers, answers requests, resolves pending requests. For `on_event` and `on_read` see `Messenger.attach`.

    No content of a frame makes it raise: a bad frame is logged and dropped. A message counts as read once its handlers
    have been called, so a message that kills its reader is reported as lost. A request counts as read before its
    handler is called, because its sender waits for the answer and learns of the death.
    """

    def __init__(
        self,
        channel: Channel,
        handlers: Handlers,
        incoming: IncomingRequests,
        pending: PendingRequests,
        on_event: OnEvent | None,
        on_read: Callable[[int], None],
    ) -> None:
        self._channel = channel
        self._handlers = handlers
        self._incoming = incoming
        self._pending = pending
        self._on_event = on_event
        self._on_read = on_read
        self._read = 0
        self._tasks = TaskSet()
        self._throttle = Throttle(LOG_INTERVAL)

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
                self._incoming.cancel(frame.request_key)
            elif kind is not FrameKind.REPORT:
                self._receive_reply(frame)
        except FrameError as error:
            self._log_dropped(frame, error)

    @property
    def running(self) -> set[Task[None]]:
        """The tasks of the async handlers that have not ended."""
        return set(self._tasks) | self._incoming.running

    def _receive_messages(self, frame: Frame) -> None:
        for body in frame.bodies() if frame.count > 1 else (frame.body,):
            try:
                action, data = _decode_unreserved(body)
            except FrameError as error:
                self._log_dropped(frame, error)
            else:
                self._handle_message(action, data)
            self._read += 1
            if not self._read % REPORT_EVERY:
                self._on_read(self._read)
        self._on_read(self._read)

    def _receive_request(self, frame: Frame) -> None:
        self._read += 1
        self._on_read(self._read)
        action, data = _decode_unreserved(frame.body)
        self._handle_request(frame.request_key, action, data)

    def _handle_request(self, key: RequestKey, action: str, data: Any) -> None:
        if self._incoming.handle(key, action, data):
            self._channel.flush_soon()

    def _receive_reply(self, frame: Frame) -> None:
        self._pending.resolve(frame)
        self._channel.flush_soon()
        if frame.kind is _REPLY:
            self._channel.learn(frame, self._take_reply)

    def _receive_event(self, frame: Frame) -> None:
        action, data = decode_message(frame.body)
        if self._on_event is not None:
            self._on_event(action, data)
        self._call_handlers(action, data)

    def _handle_message(self, action: str, data: Any) -> None:
        handlers = self._handlers.take(action)
        for handler in handlers:
            self._call(handler, action, data)
        if not handlers and action not in INTERNAL_ACTIONS:
            _logger.debug("a message %s has no handler here: it is dropped", short(action))

    def _call_handlers(self, action: str, data: Any) -> None:
        for handler in self._handlers.take(action):
            self._call(handler, action, data)

    def _call(self, handler: Handler, action: str, data: Any) -> None:
        try:
            result = handler(data)
        except BaseException:
            _logger.exception('a handler of "%s" raised', action)
            return
        if result is not None and isinstance(result, Coroutine):
            self._tasks.start(_logged(result, action))
            self._channel.flush_soon()

    def _log_dropped(self, frame: Frame, error: FrameError) -> None:
        """Log that a frame is dropped: one line of each sender and interval, because it may send a flood."""
        if self._throttle.allows(frame.source):
            _logger.warning("dropped a message from %s: %s", _sender_name(frame.source), error)

    # -- short cuts, learned by the channel; if one returns False, the frame goes the long way ---------------------

    def _take_message(self, raw: bytes) -> bool:
        try:
            action, data = decode_message(raw[HEADER_SIZE:])
        except FrameError:
            return False
        if action in LIFECYCLE_ACTIONS:
            return False
        self._handle_message(action, data)
        self._read += 1
        self._on_read(self._read)
        return True

    def _take_request(self, raw: bytes) -> bool:
        try:
            action, data = decode_message(raw[HEADER_SIZE:])
        except FrameError:
            return False
        if action in LIFECYCLE_ACTIONS:
            return False
        self._read += 1
        self._on_read(self._read)
        self._handle_request(request_key_of(raw), action, data)
        return True

    def _take_reply(self, raw: bytes) -> bool:
        resolved = self._pending.resolve_raw(raw)
        self._channel.flush_soon()  # after the awaiting task has run: it is likely to send its next request
        return resolved


def _decode_unreserved(body: memoryview) -> tuple[str, Any]:
    action, data = decode_message(body)
    if action in LIFECYCLE_ACTIONS:
        raise FrameError(f'"{action}" does not come from the master, which alone may send it')
    return action, data


async def _logged(work: Coroutine[Any, Any, Any], action: str) -> None:
    try:
        await work
    except BaseException as error:
        if is_cancellation(error):
            raise
        _logger.exception('a handler of "%s" raised', action)


def _sender_name(source: int) -> str:
    try:
        return str(Address.unpack(source))
    except ValueError:
        return f"{source:#x}"
