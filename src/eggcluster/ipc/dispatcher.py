"""The intake: what becomes of the frames that reach this process. Runs in every child, in its event loop."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.ipc.channel import Channel, Route
from eggcluster.ipc.frame import HEADER_SIZE, ROUTE, Frame, decode_message, request_key_of
from eggcluster.ipc.handlers import Handler, Handlers
from eggcluster.ipc.incoming_requests import IncomingRequests
from eggcluster.ipc.pending_requests import PendingRequests
from eggcluster.kernel.tasks import is_cancellation
from eggcluster.model.messages.message import LIFECYCLE_ACTIONS, FrameKind
from eggcluster.model.messages.role import Address

MAX_ROUTES = 1024  # short cuts of a channel: one for each kind of frame, target and sender
TELL_EVERY = 64  # messages of a flood
OnEvent = Callable[[str, Any], None]

_logger = logging.getLogger("eggcluster.messenger")
_MESSAGE, _REQUEST, _REPLY = FrameKind.MESSAGE, FrameKind.REQUEST, FrameKind.REPLY


class Dispatcher:
    """Calls handlers, answers requests, resolves questions. Nothing that a frame holds raises here: it is logged and
    dropped. `on_event` and `tell_read` as for `Messenger.attach`: a message counts as read when its handlers have been
    called, so that one whose handler was killed is among the missing; a request, for which somebody waits, before."""

    def __init__(
        self,
        channel: Channel,
        handlers: Handlers,
        answers: IncomingRequests,
        questions: PendingRequests,
        on_event: OnEvent | None,
        tell_read: Callable[[int], None],
    ) -> None:
        self._channel = channel
        self._handlers = handlers
        self._answers = answers
        self._questions = questions
        self._on_event = on_event
        self._tell_read = tell_read
        self._read = 0
        self._running: set[asyncio.Task[None]] = set()

    def receive(self, frame: Frame) -> None:
        """Act on one frame, or a run of messages."""
        kind = frame.kind
        try:
            if kind is _MESSAGE:
                self._receive_messages(frame)
                self._learn(frame, self._take_message)
            elif kind is _REQUEST:
                self._receive_request(frame)
                self._learn(frame, self._take_request)
            elif kind is FrameKind.EVENT:
                self._receive_event(frame)
            elif kind is FrameKind.CANCEL:
                self._answers.cancel(frame.request_key)
            elif kind is not FrameKind.REPORT:
                self._receive_answer(frame)
        except FrameError as error:
            _complain(frame, error)

    def dispatch(self, action: str, data: Any) -> None:
        """Call the handlers of `action` in this process."""
        for handler in self._handlers.take(action):
            self._call(handler, action, data)

    @property
    def under_way(self) -> set[asyncio.Task[None]]:
        """The async handlers that run just now."""
        return self._running | self._answers.under_way

    def _receive_messages(self, frame: Frame) -> None:
        for body in frame.bodies() if frame.count > 1 else (frame.body,):
            try:
                action, data = _decode_unreserved(body)
            except FrameError as error:
                _complain(frame, error)
            else:
                self.dispatch(action, data)
            self._read += 1
            if not self._read % TELL_EVERY:
                self._tell_read(self._read)
        self._tell_read(self._read)

    def _receive_request(self, frame: Frame) -> None:
        self._read += 1
        self._tell_read(self._read)
        action, data = _decode_unreserved(frame.body)
        self._give_answer(frame.request_key, action, data)

    def _give_answer(self, question: tuple[int, int], action: str, data: Any) -> None:
        if self._answers.give(question, action, data):
            self._channel.flush_soon()

    def _receive_answer(self, frame: Frame) -> None:
        self._questions.resolve(frame)
        self._channel.flush_soon()
        if frame.kind is _REPLY:
            self._learn(frame, self._take_reply)

    def _receive_event(self, frame: Frame) -> None:
        action, data = decode_message(frame.body)
        if self._on_event is not None:
            self._on_event(action, data)
        self.dispatch(action, data)

    def _call(self, handler: Handler, action: str, data: Any) -> None:
        try:
            result = handler(data)
        except BaseException:
            _logger.exception('a handler of "%s" raised', action)
            return
        if result is not None and isinstance(result, Coroutine):
            self._run(_logged(result, action))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """A task that is not lost to the garbage collector."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        self._channel.flush_soon()

    # -- the channel's short cuts: for a frame like one that has gone the long way. False: so must this one --------

    def _learn(self, frame: Frame, way: Route) -> None:
        ways = self._channel.ways
        if len(ways) >= MAX_ROUTES:
            ways.clear()
        ways[bytes(frame.raw[ROUTE])] = way

    def _take_message(self, raw: bytes) -> bool:
        try:
            action, data = decode_message(raw[HEADER_SIZE:])
        except FrameError:
            return False
        if action in LIFECYCLE_ACTIONS:
            return False
        for handler in self._handlers.take(action):
            self._call(handler, action, data)
        self._read += 1
        self._tell_read(self._read)
        return True

    def _take_request(self, raw: bytes) -> bool:
        try:
            action, data = decode_message(raw[HEADER_SIZE:])
        except FrameError:
            return False
        if action in LIFECYCLE_ACTIONS:
            return False
        self._read += 1
        self._tell_read(self._read)
        self._give_answer(request_key_of(raw), action, data)
        return True

    def _take_reply(self, raw: bytes) -> bool:
        resolved = self._questions.resolve_reply(raw)
        self._channel.flush_soon()  # behind the one who has asked: he is likely to ask again
        return resolved


def _decode_unreserved(body: memoryview) -> tuple[str, Any]:
    action, data = decode_message(body)
    if action in LIFECYCLE_ACTIONS:
        raise FrameError(f'"{action}" does not come from the master')
    return action, data


async def _logged(work: Coroutine[Any, Any, Any], action: str) -> None:
    try:
        await work
    except BaseException as error:
        if is_cancellation(error):
            raise
        _logger.exception('a handler of "%s" raised', action)


def _complain(frame: Frame, error: FrameError) -> None:
    _logger.warning("dropped a message from %s: %s", _name(frame.source), error)


def _name(source: int) -> str:
    try:
        return str(Address.unpack(source))
    except ValueError:
        return f"{source:#x}"
