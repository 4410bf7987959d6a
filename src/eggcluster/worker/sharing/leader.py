"""A leader: the real client, with the only connection, and its subscriptions. Runs in the agent (and in tests)."""

import asyncio
import functools
import logging
import threading
from collections.abc import Awaitable, Coroutine
from typing import Any

from eggcluster.errors import MessengerError
from eggcluster.ipc.direct_connection import DirectConnection
from eggcluster.ipc.frame import encode_frame
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.worker.sharing.client_spec import ClientSpec
from eggcluster.worker.sharing.shared_client import Established, Subscriber, call_subscriber, check_subscriber, topic

_logger = logging.getLogger("eggcluster.cluster_client")


class Subscription:
    """One subscription of the real client, shared by app workers (their connections) and the agent's own
    subscribers."""

    def __init__(self, info: Any) -> None:
        self.info = info
        self.connections: dict[DirectConnection, None] = {}
        self.subscribers: list[Subscriber] = []
        self.latest: tuple[Any, bytes] | None = None  # the value, and the frame that brings it to a follower
        self.upstream: Subscriber
        self.established: asyncio.Task[None] | None = None


class Leader:
    """Makes the real client at the start, and is its only user."""

    def __init__(self, spec: ClientSpec) -> None:
        self.spec = spec
        self._real: Any = None
        self._starting: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._thread = 0
        self._subscriptions: dict[bytes, Subscription] = {}
        # The loop holds tasks weakly. A TaskSet needs a running loop, and `unsubscribe` may be called outside of it.
        self._unsubscribing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"the leader of {self.spec.name}"

    # -- lifecycle ------------------------------------------------------------------------------------

    def begin(self) -> "asyncio.Task[None]":
        """Start the real client in the running loop, once; later calls return the same task."""
        loop = asyncio.get_running_loop()
        if self._starting is None or self._starting.get_loop() is not loop:  # each test may have its own loop
            self._loop, self._thread = loop, threading.get_ident()
            self._starting = loop.create_task(self._start())
            for subscription in self._subscriptions.values():
                self._establish_soon(subscription)
        return self._starting

    async def _start(self) -> None:
        self._real = self.spec.build()
        if start := getattr(self._real, "start", None):
            await _awaited(start())

    async def close(self) -> bool:
        """Close the real client if it was started and has a `close`; return False if that raised."""
        if self._starting is None:
            return True
        self._starting.cancel()
        for each in self._subscriptions.values():
            if each.established is not None:
                each.established.cancel()
        self._subscriptions.clear()
        try:
            if close := getattr(self._real, "close", None):
                await _awaited(close())
        except Exception:
            _logger.exception("closing %s raised", self.spec.name)
            return False
        return True

    # -- the client's methods --------------------------------------------------------------------------

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not (starting := self.begin()).done():
            await asyncio.shield(starting)
        starting.result()
        return await _awaited(getattr(self._real, method)(*args, **kwargs))

    def serve(self, method: str, data: Any) -> Any:
        """Call a method for a follower; `data` is its message. Return the result of a plain method, or a coroutine."""
        args, kwargs = data
        if self._starting is None or not self._starting.done():
            return self.call(method, args, kwargs)
        self._starting.result()
        result = getattr(self._real, method)(*args, **kwargs)
        return _awaited(result) if isinstance(result, Awaitable) and not isinstance(result, Coroutine) else result

    def subscribe(self, info: Any, listener: Subscriber) -> Established:
        check_subscriber(listener)
        key = topic(info)
        subscription = self._subscription(key, info)
        subscription.subscribers.append(listener)
        if subscription.latest is not None:
            self._loop.call_soon_threadsafe(call_subscriber, listener, subscription.latest[0], self.spec.name)
        return Established(lambda: self.established(key))

    def unsubscribe(self, info: Any, listener: Subscriber | None = None) -> None:
        if subscription := self._subscriptions.get(key := topic(info)):
            kept = [each for each in subscription.subscribers if listener is not None and each != listener]
            subscription.subscribers = kept
            self._tidy(key)

    def attribute(self, name: str) -> Any:
        return getattr(self._real, name)

    # -- for followers ---------------------------------------------------------------------------------

    def add_connection(self, connection: DirectConnection, key: bytes, info: Any) -> None:
        """Subscribe a follower."""
        subscription = self._subscription(key, info)
        is_new = connection not in subscription.connections
        subscription.connections[connection] = None
        if is_new and subscription.latest is not None:
            connection.send_latest((self.spec.name, key), subscription.latest[1])

    def remove_connection(self, connection: DirectConnection, key: bytes | None = None) -> None:
        """Unsubscribe a follower from `key`; None means from everything."""
        for each in [key] if key is not None else list(self._subscriptions):
            if subscription := self._subscriptions.get(each):
                subscription.connections.pop(connection, None)
                self._tidy(each)

    async def established(self, key: bytes) -> None:
        """Wait until the real client has subscribed; raise what it raised."""
        self.begin()
        if (subscription := self._subscriptions.get(key)) and subscription.established is not None:
            await asyncio.shield(subscription.established)

    # -- inside ----------------------------------------------------------------------------------------

    def _subscription(self, key: bytes, info: Any) -> Subscription:
        """Return the subscription for this key. The first call makes the real client subscribe; if that failed, the
        next call tries again."""
        subscription = self._subscriptions.get(key)
        if subscription is None:
            self._subscriptions[key] = subscription = Subscription(info)
            subscription.upstream = functools.partial(self._on_value, key, subscription)
        elif subscription.established is None or not _has_failed(subscription.established):
            return subscription
        if self._starting is not None:  # otherwise `begin` does it
            self._establish_soon(subscription)
        return subscription

    def _establish_soon(self, subscription: Subscription) -> None:
        subscription.latest = None
        subscription.established = self._loop.create_task(self._establish(subscription))
        # Otherwise asyncio logs an exception that was never retrieved.
        subscription.established.add_done_callback(_has_failed)

    async def _establish(self, subscription: Subscription) -> None:
        method = self.spec.called("subscribe")
        if method is None:
            raise TypeError(f"{self.spec.cls.__name__} has no subscribe(info, listener)")
        try:
            await self.call(method, (subscription.info, subscription.upstream), {})
        except Exception:
            _logger.exception("%s could not subscribe to %r", self.spec.name, subscription.info)
            raise

    def _on_value(self, key: bytes, subscription: Subscription, value: Any) -> None:
        """Pass a value on. The real client calls this, possibly from a thread of its library."""
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self._on_value, key, subscription, value)
            return
        name = self.spec.name
        try:
            frame = encode_frame(FrameKind.MESSAGE, Target.APPS, ("value", (name, key, value)))
        except MessengerError as error:
            _logger.error("a value of %s, %r, was not passed on: %s", name, subscription.info, error)
            return
        subscription.latest = value, frame
        for connection in subscription.connections:
            connection.send_latest((name, key), frame)
        for listener in list(subscription.subscribers):
            call_subscriber(listener, value, name)

    def _tidy(self, key: bytes) -> None:
        """Unsubscribe the real client, if it can, when the last subscriber has gone."""
        subscription, method = self._subscriptions[key], self.spec.called("unsubscribe")
        if subscription.connections or subscription.subscribers or method is None:
            return
        del self._subscriptions[key]
        if subscription.established is not None and not subscription.established.cancel():
            task = self._loop.create_task(self._unsubscribe(method, subscription))
            self._unsubscribing.add(task)
            task.add_done_callback(self._unsubscribing.discard)

    async def _unsubscribe(self, method: str, subscription: Subscription) -> None:
        try:
            await self.call(method, (subscription.info, subscription.upstream), {})
        except Exception:
            _logger.exception("%s could not unsubscribe from %r", self.spec.name, subscription.info)


async def _awaited(result: Any) -> Any:
    """Return the result of a plain or an async method."""
    return await result if isinstance(result, Awaitable) else result


def _has_failed(task: "asyncio.Task[None]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None
