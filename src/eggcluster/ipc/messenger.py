"""The messenger: what agent, app workers and the parent use to talk. Runs in each of them, over one channel."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from copy import copy
from typing import Any, TypeVar, overload

from eggcluster.errors import BadReceiver, MessengerClosed, MessengerError, RequestTimeout
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.dispatcher import Dispatcher, OnEvent
from eggcluster.ipc.frame import MAX_MESSAGE_BYTES, Frame, encode_frame
from eggcluster.ipc.handlers import Handler, Handlers
from eggcluster.ipc.incoming_requests import IncomingRequests, RequestKey
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

REQUEST_TIMEOUT = 5.0  # seconds; as long as Egg's close timeout: who waits longer says so
_logger = logging.getLogger("eggcluster.messenger")
# As globals: up to Python 3.11 the attribute of an Enum class takes as long to read as a function to call.
_MESSAGE, _REQUEST = FrameKind.MESSAGE, FrameKind.REQUEST
_ADDRESS, _AGENT, _ALL, _APPS, _RANDOM = Target.ADDRESS, Target.AGENT, Target.ALL, Target.APPS, Target.RANDOM
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

    def __init__(self, role: Role = Role.APP, handlers: Handlers | None = None) -> None:
        self.why_closed = "no cluster runs here: the messenger works in an agent, an app worker or a Cluster"
        self.standalone = False  # True: outside of a cluster sending does nothing, instead of raising MessengerClosed
        self._role = role
        self._handlers = handlers or Handlers()
        self._outbox: Outbox | None = None
        self._max_bytes = MAX_MESSAGE_BYTES
        self._address = 0
        self._questions: PendingRequests | None = None
        self._answers = IncomingRequests(self._handlers, self._reply)
        self._intake: Dispatcher | None = None
        self.internal = InternalMessenger(self._handlers, self._write, self._ask)

    # -- sending ---------------------------------------------------------------------------------------

    def send(self, action: str, data: Any = None, to: Receiver | None = None) -> None:
        """Send to `to`; by default an app's message goes to the agent, the agent's to the apps, the parent's to
        the master."""
        target, target_id = (_DEFAULT_TARGETS[self._role], 0) if to is None else parse_receiver(to)
        self._send(action, data, target, target_id)

    def broadcast(self, action: str, data: Any = None) -> None:
        """Send to the agent and all app workers, this one too."""
        self._send(action, data, _ALL)

    def send_to_app(self, action: str, data: Any = None) -> None:
        """Send to all app workers, this one too if it is one."""
        self._send(action, data, _APPS)

    def send_to_agent(self, action: str, data: Any = None) -> None:
        """Send to the agent; kept for the next one while it is being replaced."""
        self._send(action, data, _AGENT)

    def send_random(self, action: str, data: Any = None) -> None:
        """Send to one app worker that listens, chosen at random."""
        self._send(action, data, _RANDOM)

    def send_to(self, worker_id: Receiver, action: str, data: Any = None) -> None:
        """Send to one: a worker id, "agent", "master", "parent", or "app#2"; "app" and "all" are many."""
        target, target_id = parse_receiver(worker_id)
        self._send(action, data, target, target_id)

    def send_to_parent(self, action: str, data: Any = None) -> None:
        """Send to the process that started the master."""
        self._send(action, data, Target.PARENT)

    def _send(self, action: str, data: Any, target: Target, target_id: int = 0) -> None:
        if action.__class__ is not str or action in RESERVED_ACTIONS:
            check_action(action)
        frame = encode_frame(_MESSAGE, target, (action, data), target_id, self._address, 0, self._max_bytes)
        if self._outbox is None and self._is_ignored():
            return
        (self._outbox or self._attached()).write(frame)

    async def drain(self) -> None:
        """Wait until all that was sent has left this process; MessengerClosed if the channel closes meanwhile."""
        if not self._is_ignored():
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
        return await self._ask(action, data, *self._one_receiver(to), timeout)

    async def _ask(self, action: str, data: Any, target: Target, target_id: int, timeout: float) -> Any:
        outbox = self._attached()
        asking = self._request(action, data, target, target_id, timeout)
        return await (asking if outbox.is_here() else outbox.on_loop(asking))

    def _one_receiver(self, to: Receiver | None) -> tuple[Target, int]:
        target, target_id = (_DEFAULT_TARGETS[self._role], 0) if to is None else parse_receiver(to)
        if target is _ALL:
            raise BadReceiver('a request goes to one receiver, "all" is many')
        return (_RANDOM, 0) if target is _APPS else (target, target_id)

    async def _request(self, action: str, data: Any, target: Target, target_id: int, timeout: float) -> Any:
        outbox, questions = self._attached(), self._questions
        assert questions is not None
        request_id = questions.next_id()
        frame = self._encode(_REQUEST, target, (action, data), target_id, request_id)
        answer = questions.begin(request_id, action, timeout)
        try:
            outbox.write(frame)
            return await answer
        except (RequestTimeout, asyncio.CancelledError):
            self._cancel_remote(target, target_id, request_id)
            raise
        finally:
            questions.end(request_id, timeout)

    def _cancel_remote(self, target: Target, target_id: int, request_id: int) -> None:
        with contextlib.suppress(MessengerClosed):
            self._write(FrameKind.CANCEL, target, None, target_id, request_id)

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
        check_not_internal(action)
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
        check_not_internal(action)
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

    def registering_with(self, handlers: Handlers) -> "Messenger":
        """The same messenger, except that `on`, `once` and `off` go to `handlers`."""
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
        tell_read: Callable[[int], None] = lambda messages: None,
    ) -> None:
        """Send over `channel` from now on, as `address`. Call it in the loop that the channel runs in.

        `on_event` gets each message of the master itself, before the application's handlers do; `tell_read` how many
        messages have been read so far, after each small one and every now and then in a flood.
        """
        self._role = address.role
        self._address = address.pack()
        self._max_bytes = max_bytes
        self._outbox = Outbox(channel, max_queue_bytes)
        self._questions = questions = PendingRequests()
        self._intake = Dispatcher(channel, self._handlers, self._answers, questions, on_event, tell_read)

    def detach(self) -> None:
        """The channel is gone: who waits for an answer gets MessengerClosed, later sends raise it too."""
        self._outbox = None
        if self._questions is not None:
            self._questions.end_all()
        self._answers.cancel_all()

    async def settle(self, limit: float) -> None:
        """Wait until the async handlers that run now have ended, for `limit` seconds at most."""
        if self._intake is not None and (running := self._intake.under_way):
            await asyncio.wait(running, timeout=limit)

    def receive(self, frame: Frame) -> None:
        """Act on one frame, or a run of messages. Nothing that it holds raises here: it is logged and dropped."""
        if self._intake is not None:
            self._intake.receive(frame)

    def _reply(self, question: RequestKey, kind: FrameKind, content: Any) -> None:
        """Send what a handler of ours returned or raised."""
        try:
            answer = self._encode(kind, _ADDRESS, content, *question)
        except MessengerError as error:  # it cannot travel
            text = [type(error).__name__, str(error), ""]
            answer = self._encode(FrameKind.FAILURE, _ADDRESS, text, *question)
        try:
            (self._outbox or self._attached()).write(answer)
        except MessengerError as error:
            _logger.warning("an answer was not sent: %s", error)

    # -- inside ----------------------------------------------------------------------------------------

    def _is_ignored(self) -> bool:
        """Return whether what is sent goes nowhere, by the application's wish: it runs outside of a cluster."""
        return self.standalone and self._intake is None

    def _attached(self) -> Outbox:
        if self._outbox is None:
            raise MessengerClosed(self.why_closed)
        return self._outbox

    def _write(self, kind: FrameKind, target: Target, content: Any, target_id: int = 0, request_id: int = 0) -> None:
        self._attached().write(self._encode(kind, target, content, target_id, request_id))

    def _encode(self, kind: FrameKind, target: Target, content: Any, target_id: int = 0, request_id: int = 0) -> bytes:
        return encode_frame(kind, target, content, target_id, self._address, request_id, self._max_bytes)
