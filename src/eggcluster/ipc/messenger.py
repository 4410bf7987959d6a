"""The messenger: agent, app workers and the parent send and receive with it. Runs in each of them, over one channel."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from copy import copy
from typing import Any, TypeVar, overload

from eggcluster.errors import BadReceiver, MessengerClosed, MessengerError, RequestTimeout
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.dispatcher import Dispatcher, OnEvent
from eggcluster.ipc.frame import MAX_MESSAGE_BYTES, Frame, RequestKey, encode_frame
from eggcluster.ipc.handler_progress import HandlerProgress, private_numbers
from eggcluster.ipc.handlers import Handler, Handlers
from eggcluster.ipc.incoming_requests import IncomingRequests
from eggcluster.ipc.internal_messenger import InternalMessenger
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES, Outbox
from eggcluster.ipc.pending_requests import PendingRequests
from eggcluster.model.messages.message import (
    RESERVED_ACTIONS,
    FrameKind,
    Receiver,
    Target,
    check_action,
    check_not_internal,
    parse_receiver,
)
from eggcluster.model.messages.role import Address, Role

REQUEST_TIMEOUT = 5.0  # seconds, by default; as long as Egg's close timeout
_logger = logging.getLogger("eggcluster.messenger")
# Globals, because up to Python 3.11 reading an attribute of an Enum class takes as long as a function call.
_MESSAGE, _REQUEST = FrameKind.MESSAGE, FrameKind.REQUEST
_ADDRESS, _AGENT, _ALL, _APPS, _RANDOM = Target.ADDRESS, Target.AGENT, Target.ALL, Target.APPS, Target.RANDOM
_H = TypeVar("_H", bound=Handler)
_DEFAULT_TARGETS = {Role.APP: Target.AGENT, Role.AGENT: Target.APPS, Role.PARENT: Target.MASTER}

NO_CLUSTER = "no cluster runs here: the messenger works in an agent, an app worker or a Cluster"


class Messenger:
    """Sends to and receives from the other workers of the cluster, and its parent.

    Sending returns at once and works from any thread of the process; `await drain()` waits until all messages have
    left it. `data` is what MessagePack can carry: None, bool, int (64 bit), float, str, bytes, list, dict, and
    datetime with a time zone; a tuple arrives as a list.

    A message without a receiver is lost, which the sender does not notice: the master counts it (`messages_to_nobody`
    in the status) and logs it. A receiver is missing if its worker id, slot or parent does not exist (any more).
    Messages to the agent or a slot are kept while a new worker starts there, and what a worker had not begun when it
    died goes to its successor.

    Every sending call may raise `ReservedAction`, `BadReceiver`, `NotSerializable`, `MessageTooLarge`, `MessengerBusy`
    if more than `max_queue_bytes` wait already (`await drain()`, then send again), or `MessengerClosed` if no cluster
    runs. Handlers are plain or async functions of one argument, the data. They run in the worker's event loop, and
    exceptions that they raise are logged.
    """

    def __init__(self, role: Role = Role.APP, handlers: Handlers | None = None) -> None:
        self.why_closed = NO_CLUSTER
        self.standalone = False  # True: outside of a cluster, sending does nothing instead of raising MessengerClosed
        self._role = role
        self._handlers = handlers or Handlers()
        self._outbox: Outbox | None = None
        self._max_bytes = MAX_MESSAGE_BYTES
        self._address = 0
        self._pending: PendingRequests | None = None
        self._incoming = IncomingRequests(self._handlers.take, self._reply)
        self._dispatcher: Dispatcher | None = None
        self.internal = InternalMessenger(self._handlers, self._write, self._request)

    # -- sending ---------------------------------------------------------------------------------------

    def send(self, action: str, data: Any = None, to: Receiver | None = None) -> None:
        """Send to the receiver `to`. By default an app worker's message goes to the agent, the agent's to the app
        workers, and the parent's to the master.

        The master has no handlers for messages, so a message to it is always lost: in the parent, name a receiver.
        """
        target, target_id = (_DEFAULT_TARGETS[self._role], 0) if to is None else parse_receiver(to)
        self._send(action, data, target, target_id)

    def broadcast(self, action: str, data: Any = None) -> None:
        """Send to the agent and all app workers, including the sender if it is one of them."""
        self._send(action, data, _ALL)

    def send_to_app(self, action: str, data: Any = None) -> None:
        """Send to all app workers, including the sender if it is one."""
        self._send(action, data, _APPS)

    def send_to_agent(self, action: str, data: Any = None) -> None:
        """Send to the agent. While it is being replaced, the message is kept for its successor."""
        self._send(action, data, _AGENT)

    def send_random(self, action: str, data: Any = None) -> None:
        """Send to one listening app worker, chosen at random. While none listens, the message is lost."""
        self._send(action, data, _RANDOM)

    def send_to(self, worker_id: Receiver, action: str, data: Any = None) -> None:
        """Send to a worker id, "agent", "master", "parent" or "app#2", or to many: "app", "all"."""
        target, target_id = parse_receiver(worker_id)
        self._send(action, data, target, target_id)

    def send_to_parent(self, action: str, data: Any = None) -> None:
        """Send to the program that started the master. If there is none, the message is lost."""
        self._send(action, data, Target.PARENT)

    def _send(self, action: str, data: Any, target: Target, target_id: int = 0) -> None:
        if action.__class__ is not str or action in RESERVED_ACTIONS:
            check_action(action)
        frame = encode_frame(_MESSAGE, target, (action, data), target_id, self._address, 0, self._max_bytes)
        if self._outbox is None and self._is_ignored():
            return
        (self._outbox or self._attached()).write(frame)

    async def drain(self) -> None:
        """Wait until all sent messages have left this process; MessengerClosed if the channel closes meanwhile.

        Cancelling it ends the waiting alone: the messages still leave.
        """
        if not self._is_ignored():
            await self._attached().drain()

    # -- requests --------------------------------------------------------------------------------------

    async def request(
        self, action: str, data: Any = None, *, to: Receiver | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> Any:
        """Send a request to one receiver, and return what its handler returned. Cancelling it cancels the handler.

        `to` defaults as in `send`; "app" (and the agent's default) means one listening app worker. `timeout` is in
        seconds. If the receiver dies before its handler has begun, its successor answers (another app worker, if any
        may; none, if the receiver was named by its worker id). Raises `RemoteError` if the handler raised or there is
        none, `RequestTimeout`, `ReceiverDied` as soon as the receiver is known to have died after its handler had
        begun, or no worker will answer, and what sending raises. Works in any event loop.
        """
        check_action(action)
        if not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
            raise ValueError(f"timeout: {timeout!r} is not a time; use seconds above 0")
        return await self._request(action, data, *self._one_receiver(to), timeout)

    async def _request(self, action: str, data: Any, target: Target, target_id: int, timeout: float) -> Any:
        outbox = self._attached()
        work = self._request_in_loop(action, data, target, target_id, timeout)
        return await (work if outbox.is_in_loop() else outbox.run_in_loop(work))

    def _one_receiver(self, to: Receiver | None) -> tuple[Target, int]:
        target, target_id = (_DEFAULT_TARGETS[self._role], 0) if to is None else parse_receiver(to)
        if target is _ALL:
            raise BadReceiver('a request goes to one receiver, "all" is many: use "agent", "app" or "app#2"')
        return (_RANDOM, 0) if target is _APPS else (target, target_id)

    async def _request_in_loop(self, action: str, data: Any, target: Target, target_id: int, timeout: float) -> Any:
        outbox, pending, dispatcher = self._attached(), self._pending, self._dispatcher
        assert pending is not None
        assert dispatcher is not None
        request_id = pending.next_id()
        frame = self._encode(_REQUEST, target, (action, data), target_id, request_id)
        future = pending.begin(request_id, action, timeout)
        try:
            outbox.write(frame)
            dispatcher.expect_answer()
            return await future
        except (RequestTimeout, asyncio.CancelledError):
            self._cancel_remote(target, target_id, request_id)
            raise
        finally:
            pending.end(request_id, timeout)

    def _cancel_remote(self, target: Target, target_id: int, request_id: int) -> None:
        with contextlib.suppress(MessengerClosed):
            self._write(FrameKind.CANCEL, target, None, target_id, request_id)

    # -- receiving -------------------------------------------------------------------------------------

    @overload
    def on(self, action: str) -> Callable[[_H], _H]: ...
    @overload
    def on(self, action: str, handler: _H) -> _H: ...
    def on(self, action: str, handler: _H | None = None) -> Any:
        """Call `handler` with the data of each `action`; without `handler`, return a decorator.

        Raises TypeError for a function that cannot take one argument. A request is answered by the first handler
        registered.
        """
        return self._register(action, handler, once=False)

    @overload
    def once(self, action: str) -> Callable[[_H], _H]: ...
    @overload
    def once(self, action: str, handler: _H) -> _H: ...
    def once(self, action: str, handler: _H | None = None) -> Any:
        """Like `on`, for the next `action` only."""
        return self._register(action, handler, once=True)

    def off(self, action: str, handler: Handler | None = None) -> None:
        """Stop calling `handler`, or (None) all handlers of `action`. A handler that is not registered is no error."""
        check_not_internal(action)
        self._handlers.discard(action, handler)

    async def wait_for(self, action: str, timeout: float | None = None) -> Any:
        """Wait for the next `action` and return its data; TimeoutError after `timeout` seconds (None: no limit)."""
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
        check_not_internal(action)
        if handler is not None:
            self._handlers.add(action, handler, once=once)
            return handler

        def decorate(function: Handler) -> Handler:
            self._handlers.add(action, function, once=once)
            return function

        return decorate

    # -- called by the channel's owner, in its loop ---------------------------------------------------------

    def set_role(self, role: Role) -> None:
        """Set the role of the running code, which decides where `send` without `to` goes."""
        self._role = role

    def with_handlers(self, handlers: Handlers) -> "Messenger":
        """Return a copy of the messenger of which `on`, `once` and `off` use `handlers`."""
        other = copy(self)
        other._handlers = handlers
        return other

    def attach(
        self,
        channel: Channel,
        address: Address,
        max_bytes: int = MAX_MESSAGE_BYTES,
        max_queue_bytes: int = MAX_QUEUE_BYTES,
        on_event: OnEvent | None = None,
        progress: HandlerProgress | None = None,
    ) -> None:
        """Send over `channel` from now on, as `address`. Call it in the loop that the channel runs in.

        `on_event` gets each lifecycle message before the application's handlers do. `progress` is told which messages
        have begun and finished.
        """
        self._role = address.role
        self._address = address.pack()
        self._max_bytes = max_bytes
        self._outbox = Outbox(channel, max_queue_bytes)
        self._pending = pending = PendingRequests()
        progress = progress or HandlerProgress(private_numbers())
        self._dispatcher = Dispatcher(channel, self._handlers, self._incoming, pending, on_event, progress)

    def detach(self) -> None:
        """Let pending requests and later sends raise MessengerClosed, and cancel the handlers of requests: the channel
        is closed."""
        self._outbox = None
        if self._pending is not None:
            self._pending.end_all()
        self._incoming.cancel_all()

    async def wait_for_handlers(self, timeout: float) -> None:
        """Wait until all messages that were read are handled, for `timeout` seconds at most."""
        if self._dispatcher is not None:
            await self._dispatcher.wait_until_idle(timeout)

    def receive(self, frame: Frame) -> None:
        """Act on one frame, or a run of messages. No content of a frame makes it raise: a bad frame is logged."""
        if self._dispatcher is not None:
            self._dispatcher.receive(frame)

    def _reply(self, key: RequestKey, kind: FrameKind, content: Any) -> None:
        """Send what a handler returned or raised."""
        try:
            frame = self._encode(kind, _ADDRESS, content, *key)
        except MessengerError as error:  # the answer cannot travel; its sender learns why
            text = [type(error).__name__, str(error), ""]
            frame = self._encode(FrameKind.FAILURE, _ADDRESS, text, *key)
        try:
            (self._outbox or self._attached()).write(frame)
        except MessengerError as error:
            _logger.warning("an answer was not sent: %s", error)

    # -- inside ----------------------------------------------------------------------------------------

    def _is_ignored(self) -> bool:
        """Return whether sending does nothing: `standalone` is set, and the application runs outside of a cluster."""
        return self.standalone and self._dispatcher is None

    def _attached(self) -> Outbox:
        if self._outbox is None:
            raise MessengerClosed(self.why_closed)
        return self._outbox

    def _write(self, kind: FrameKind, target: Target, content: Any, target_id: int = 0, request_id: int = 0) -> None:
        self._attached().write(self._encode(kind, target, content, target_id, request_id))

    def _encode(self, kind: FrameKind, target: Target, content: Any, target_id: int = 0, request_id: int = 0) -> bytes:
        return encode_frame(kind, target, content, target_id, self._address, request_id, self._max_bytes)
