"""A follower: a shared client in an app worker, which has the real one's methods and none of its connections."""

import functools
from typing import Any, Protocol

from eggcluster.worker.sharing.client_spec import ClientSpec
from eggcluster.worker.sharing.shared_client import Established, Subscriber, call_subscriber, check_subscriber, topic


class AgentLink(Protocol):
    """The worker's connection to the agent."""

    async def call(self, name: str, action: str, data: Any, timeout: float, *, again: bool) -> Any:
        """Ask the leader `name`; with `again` once more where the agent goes away meanwhile."""

    def tell(self, action: str, data: Any) -> None:
        """Tell the agent, if it is there; a worker that reconnects later subscribes anew."""

    def soon(self, function: Any, *args: Any) -> None:
        """Call a function in the worker's event loop."""


class Topic:
    """What listeners of this worker subscribe to, and its latest value: a tuple of one, empty before the first."""

    def __init__(self, info: Any) -> None:
        self.info = info
        self.subscribers: list[Subscriber] = []
        self.latest: tuple[Any, ...] = ()


class Follower:
    """Calls go to the leader; it keeps the latest value of each subscription, for subscribers that come later."""

    def __init__(self, spec: ClientSpec, wire: AgentLink) -> None:
        self.spec = spec
        self._wire = wire
        self._topics: dict[bytes, Topic] = {}

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, again = self.spec.name, self.spec.is_idempotent(method)
        return await self._wire.call(name, f"{name}.{method}", (args, kwargs), self.spec.timeout, again=again)

    def subscribe(self, info: Any, subscriber: Subscriber) -> Established:
        check_subscriber(subscriber)
        key = topic(info)
        self._wire.soon(self._subscribe, key, info, subscriber)
        return Established(functools.partial(self._established, key))

    def unsubscribe(self, info: Any, subscriber: Subscriber | None = None) -> None:
        self._wire.soon(self._unsubscribe, topic(info), subscriber)

    def attribute(self, name: str) -> Any:
        cls = self.spec.cls.__name__
        raise AttributeError(
            f"a follower of {cls} has no {name!r}: it has the async methods, subscribe, unsubscribe and publish, and "
            f"what delegate() names"
        )

    # -- called by the wire ----------------------------------------------------------------------------

    def subscribe_again(self) -> None:
        """There is an agent again, or for the first time: it has to be told."""
        for key, each in self._topics.items():
            self._wire.tell("subscribe", (self.spec.name, key, each.info))

    def receive(self, key: bytes, value: Any) -> None:
        """A value came."""
        if found := self._topics.get(key):
            found.latest = (value,)
            for subscriber in list(found.subscribers):
                call_subscriber(subscriber, value, self.spec.name)

    # -- inside ----------------------------------------------------------------------------------------

    def _subscribe(self, key: bytes, info: Any, subscriber: Subscriber) -> None:
        found = self._topics.get(key)
        if found is None:
            found = self._topics[key] = Topic(info)
        self._wire.tell("subscribe", (self.spec.name, key, info))  # again, too: the first may have failed
        found.subscribers.append(subscriber)
        for value in found.latest:
            call_subscriber(subscriber, value, self.spec.name)

    def _unsubscribe(self, key: bytes, subscriber: Subscriber | None) -> None:
        if found := self._topics.get(key):
            found.subscribers = [each for each in found.subscribers if subscriber is not None and each != subscriber]
            if not found.subscribers:
                del self._topics[key]
                self._wire.tell("unsubscribe", (self.spec.name, key, None))

    async def _established(self, key: bytes) -> None:
        name, timeout = self.spec.name, self.spec.timeout
        await self._wire.call(name, "subscribed", (name, key), timeout, again=True)
