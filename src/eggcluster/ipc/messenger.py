"""The messenger: what agent, app workers and the parent use to talk. Runs in each of them, over one channel."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

from eggcluster.errors import (
    BadReceiver,
    FrameError,
    MessengerClosed,
    MessengerError,
    ReceiverDied,
    RemoteError,
    RequestTimeout,
)
from eggcluster.ipc.answers import Answers
from eggcluster.ipc.cancellation import is_cancellation
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import MAX_MESSAGE_BYTES, Frame, decode_body, decode_message, encode_frame
from eggcluster.ipc.handlers import Handler, Handlers
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES, Outbox
from eggcluster.ipc.receipts import Receipts
from eggcluster.model.message import RESERVED_ACTIONS, Kind, Receiver, Target, check_action, parse_receiver
from eggcluster.model.role import Address, Role

REQUEST_TIMEOUT = 5.0  # seconds; as long as Egg's close timeout: who waits longer says so
_logger = logging.getLogger("eggcluster.messenger")
_H = TypeVar("_H", bound=Handler)
_DEFAULT_TARGETS = {Role.APP: Target.AGENT, Role.AGENT: Target.APPS, Role.PARENT: Target.MASTER}


class Messenger:
    """Sends to and receives from the others in the cluster.

    Sending returns at once and may be done from any thread of the process; `await drain()` waits until all has
    left it. `data` is what MessagePack can carry: None, bool, int (64 bit), float, str, bytes, list, dict, and
    datetime with a time zone; a tuple arrives as a list. Every sending call raises `ReservedAction`, `BadReceiver`,
    `NotSerializable`, `MessageTooLarge`, `MessengerBusy` where more than `max_queue_bytes` wait already (`await
    drain()`, then send again), or `MessengerClosed` where no cluster runs. Handlers are plain or async
    functions of one argument, the data; they run in the worker's event loop, and what they raise is logged.
    """

    def __init__(self, role: Role = Role.APP) -> None:
        self._role = role
        self._handlers = Handlers()
        self._outbox: Outbox | None = None
        self._max_bytes = MAX_MESSAGE_BYTES
        self._address = 0
        self._request_id = random.getrandbits(32)  # a successor must not take its predecessor's answers for its own
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._answers = Answers(self._handlers, self._reply)
        self._running: set[asyncio.Task[Any]] = set()
        self._on_event: Callable[[str, Any], None] | None = None
        self.receipts = Receipts(self._send_receipt)

    # -- sending ---------------------------------------------------------------------------------------

    def send(self, action: str, data: Any = None, to: Receiver | None = None) -> None:
        """Send to `to`; by default an app's message goes to the agent, the agent's to the apps, the parent's to
        the master."""
        target, target_id = (_DEFAULT_TARGETS[self._role], 0) if to is None else parse_receiver(to)
        self._send(action, data, target, target_id)

    def broadcast(self, action: str, data: Any = None) -> None:
        """Send to the agent and all app workers, this one too."""
        self._send(action, data, Target.ALL)

    def send_to_app(self, action: str, data: Any = None) -> None:
        """Send to all app workers, this one too if it is one."""
        self._send(action, data, Target.APPS)

    def send_to_agent(self, action: str, data: Any = None) -> None:
        """Send to the agent; kept for the next one while it is being replaced."""
        self._send(action, data, Target.AGENT)

    def send_random(self, action: str, data: Any = None) -> None:
        """Send to one app worker that listens, chosen at random."""
        self._send(action, data, Target.RANDOM)

    def send_to(self, worker_id: Receiver, action: str, data: Any = None) -> None:
        """Send to one: a worker id, "agent", "master", "parent", or "app#2"; "app" and "all" are many."""
        target, target_id = parse_receiver(worker_id)
        self._send(action, data, target, target_id)

    def send_to_parent(self, action: str, data: Any = None) -> None:
        """Send to the process that started the master."""
        self._send(action, data, Target.PARENT)

    def _send(self, action: str, data: Any, target: Target, target_id: int = 0) -> None:
        check_action(action)
        outbox = self._outbox or self._attached()
        message = (action, data)
        outbox.write(encode_frame(Kind.MESSAGE, target, message, target_id, self._address, 0, self._max_bytes))

    async def drain(self) -> None:
        """Wait until all that was sent has left this process; MessengerClosed if the channel closes meanwhile."""
        await self._attached().drain()

    # -- asking ----------------------------------------------------------------------------------------

    async def request(
        self, action: str, data: Any = None, *, to: Receiver | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> Any:
        """Ask one receiver, and give what its handler returned.

        `to` defaults as in `send`; "app" (and the agent's default) means one listening app worker. `timeout` is
        in seconds. Raises `RemoteError` for what the handler raised (or where there is none), `RequestTimeout`,
        `ReceiverDied` as soon as the receiver is known to be gone. Cancelling it cancels the handler.
        """
        check_action(action)
        if not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
            raise ValueError(f"timeout: {timeout!r} is no time; use seconds above 0")
        target, target_id = self._one_receiver(to)
        return await self._attached().on_loop(self._request(action, data, target, target_id, timeout))

    def _one_receiver(self, to: Receiver | None) -> tuple[Target, int]:
        target, target_id = (_DEFAULT_TARGETS[self._role], 0) if to is None else parse_receiver(to)
        if target is Target.ALL:
            raise BadReceiver('a request goes to one receiver, "all" is many')
        return (Target.RANDOM, 0) if target is Target.APPS else (target, target_id)

    async def _request(self, action: str, data: Any, target: Target, target_id: int, timeout: float) -> Any:
        self._request_id = request_id = (self._request_id + 1) & 0xFFFFFFFF
        frame = self._encode(Kind.REQUEST, target, [action, data], target_id, request_id)
        loop = asyncio.get_running_loop()
        self._waiting[request_id] = answer = loop.create_future()
        limit = loop.call_later(timeout, _expire, answer, action, timeout)
        try:
            self._attached().write(frame)
            return await answer
        except (RequestTimeout, asyncio.CancelledError):
            self._cancel_remote(target, target_id, request_id)
            raise
        finally:
            limit.cancel()
            del self._waiting[request_id]

    def _cancel_remote(self, target: Target, target_id: int, request_id: int) -> None:
        with contextlib.suppress(MessengerClosed):
            self._attached().write(self._encode(Kind.CANCEL, target, None, target_id, request_id))

    # -- receiving -------------------------------------------------------------------------------------

    @overload
    def on(self, action: str) -> Callable[[_H], _H]: ...
    @overload
    def on(self, action: str, handler: _H) -> _H: ...
    def on(self, action: str, handler: _H | None = None) -> Any:
        """Call `handler` with the data of each `action`; without a handler, a decorator. TypeError for a function
        that cannot take one argument. A request is answered by the first handler registered."""
        return self._register(action, handler, once=False)

    @overload
    def once(self, action: str) -> Callable[[_H], _H]: ...
    @overload
    def once(self, action: str, handler: _H) -> _H: ...
    def once(self, action: str, handler: _H | None = None) -> Any:
        """As `on`, for the next `action` only."""
        return self._register(action, handler, once=True)

    def off(self, action: str, handler: Handler | None = None) -> None:
        """Stop calling `handler`, or all handlers of `action`; what is not registered is no error."""
        self._handlers.discard(action, handler)

    async def wait_for(self, action: str, timeout: float | None = None) -> Any:
        """Wait for the next `action` and give its data; TimeoutError after `timeout` seconds."""
        arrived: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def arrive(data: Any) -> None:
            if not arrived.done():
                arrived.set_result(data)

        self.once(action, arrive)
        try:
            async with asyncio.timeout(timeout):
                return await arrived
        finally:
            self.off(action, arrive)

    def _register(self, action: str, handler: Handler | None, *, once: bool) -> Any:
        if handler is not None:
            self._handlers.add(action, handler, once=once)
            return handler

        def decorate(function: Handler) -> Handler:
            self._handlers.add(action, function, once=once)
            return function

        return decorate

    # -- the channel's side: called by whoever owns the channel, in the loop ------------------------------

    def serve_as(self, role: Role) -> None:
        """This messenger is `role`'s: it decides where a message goes that names no receiver."""
        self._role = role

    def attach(
        self,
        channel: Channel,
        address: Address,
        max_bytes: int = MAX_MESSAGE_BYTES,
        max_queue_bytes: int = MAX_QUEUE_BYTES,
        on_event: Callable[[str, Any], None] | None = None,
    ) -> None:
        """Send over `channel` from now on, as `address`. Call it in the loop that the channel runs in.

        `on_event` gets each message of the master itself, before the application's handlers do.
        """
        self._on_event = on_event
        self._role = address.role
        self._address = address.pack()
        self._outbox = Outbox(channel, max_queue_bytes)
        self._max_bytes = max_bytes

    def detach(self) -> None:
        """The channel is gone: who waits for an answer gets MessengerClosed, later sends raise it too."""
        self._outbox = None
        self.receipts.stop()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(MessengerClosed("the channel to the master was closed"))
        self._answers.cancel_all()

    def receive(self, frame: Frame) -> None:
        """Act on one frame, or a run of messages. Nothing that it holds raises here: it is logged and dropped."""
        if frame.kind is Kind.MESSAGE or frame.kind is Kind.REQUEST:
            self.receipts.count(frame.count)
        try:
            if frame.kind is Kind.MESSAGE or frame.kind is Kind.EVENT:
                self._receive_messages(frame)
            elif frame.kind is Kind.REQUEST:
                self._receive_request(frame)
            elif frame.kind is Kind.CANCEL:
                self._answers.cancel(frame)
            elif frame.kind is not Kind.REPORT:
                self._receive_answer(frame)
        except FrameError as error:
            self._complain(frame, error)

    def _send_receipt(self, count: int) -> None:
        with contextlib.suppress(MessengerError):
            self._attached().write(self._encode(Kind.RECEIPT, Target.MASTER, None, request_id=count))

    def dispatch(self, action: str, data: Any) -> None:
        """Call the handlers of `action` in this process."""
        for handler in self._handlers.take(action):
            self._call(handler, action, data)

    def _receive_messages(self, frame: Frame) -> None:
        for body in frame.bodies() if frame.count > 1 else (frame.body,):
            try:
                action, data = decode_message(body)
                if action in RESERVED_ACTIONS and frame.kind is Kind.MESSAGE:
                    raise FrameError(f'"{action}" does not come from the master')
            except FrameError as error:
                self._complain(frame, error)
            else:
                if frame.kind is Kind.EVENT and self._on_event is not None:
                    self._on_event(action, data)
                self.dispatch(action, data)

    def _complain(self, frame: Frame, error: FrameError) -> None:
        _logger.warning("dropped a message from %s: %s", _name(frame.source), error)

    def _call(self, handler: Handler, action: str, data: Any) -> None:
        try:
            result = handler(data)
        except BaseException:
            _logger.exception('a handler of "%s" raised', action)
            return
        if result is not None and isinstance(result, Coroutine):
            self._run(_logged(result, action))

    def _receive_request(self, frame: Frame) -> None:
        action, data = decode_message(frame.body)
        if action in RESERVED_ACTIONS:
            raise FrameError(f'"{action}" does not come from the master')
        self._answers.give(frame, action, data)

    def _receive_answer(self, frame: Frame) -> None:
        answer = self._waiting.get(frame.request_id)
        if answer is None or answer.done():
            return  # the one who asked does not wait any more
        if frame.kind is Kind.REPLY:
            answer.set_result(decode_body(frame.body))
        elif frame.kind is Kind.LOST:
            answer.set_exception(ReceiverDied(decode_body(frame.body, str)))
        else:
            answer.set_exception(RemoteError(*decode_body(frame.body, tuple[str, str, str])))

    def _reply(self, frame: Frame, kind: Kind, content: Any) -> None:
        """Send what a handler of ours returned or raised."""
        try:
            answer = self._encode(kind, Target.ADDRESS, content, frame.source, frame.request_id)
        except MessengerError as error:  # it cannot travel
            text = [type(error).__name__, str(error), ""]
            answer = self._encode(Kind.FAILURE, Target.ADDRESS, text, frame.source, frame.request_id)
        try:
            self._attached().write(answer)
        except MessengerError as error:
            _logger.warning("an answer was not sent: %s", error)

    # -- inside ----------------------------------------------------------------------------------------

    def _attached(self) -> Outbox:
        if self._outbox is None:
            raise MessengerClosed("no cluster runs here: the messenger works in an agent, an app worker or a Cluster")
        return self._outbox

    def _encode(self, kind: Kind, target: Target, content: Any, target_id: int = 0, request_id: int = 0) -> bytes:
        return encode_frame(kind, target, content, target_id, self._address, request_id, self._max_bytes)

    def _run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that is not lost to the garbage collector."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


async def _logged(work: Coroutine[Any, Any, Any], action: str) -> None:
    try:
        await work
    except BaseException as error:
        if is_cancellation(error):
            raise
        _logger.exception('a handler of "%s" raised', action)


def _expire(answer: asyncio.Future[Any], action: str, timeout: float) -> None:
    if not answer.done():
        answer.set_exception(RequestTimeout(f'no answer to "{action}" within {timeout:g}s'))


def _name(source: int) -> str:
    try:
        return str(Address.unpack(source))
    except ValueError:
        return f"{source:#x}"
