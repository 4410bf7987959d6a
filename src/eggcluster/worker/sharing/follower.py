"""A follower: a shared client without a connection of its own, which calls the leader. Runs in an app worker."""

import functools
from typing import Any, Protocol

from eggcluster.worker.sharing.client_spec import ClientSpec
from eggcluster.worker.sharing.shared_client import Established, Subscriber, call_subscriber, check_subscriber, topic


class AgentLink(Protocol):
    """The worker's connection to the agent."""

    async def call(self, name: str, action: str, data: Any, timeout: float, *, again: bool) -> Any:
        """Call the leader `name`. With `again`, repeat the call if the agent goes away meanwhile."""

    def tell(self, action: str, data: Any) -> None:
        """Send a message to the agent if it is connected. A worker that reconnects later subscribes again."""

    def soon(self, function: Any, *args: Any) -> None:
        """Call a function in the worker's event loop."""


class Topic:
    """A subscription of this worker. `latest` holds the latest value as a tuple of one, empty before the first."""

    def __init__(self, info: Any) -> None:
        self.info = info
        self.subscribers: list[Subscriber] = []
        self.latest: tuple[Any, ...] = ()


class Follower:
    """Sends calls to the leader, and keeps the latest value of each subscription for later subscribers."""

    def __init__(self, spec: ClientSpec, link: AgentLink) -> None:
        self.spec = spec
        self._link = link
        self._topics: dict[bytes, Topic] = {}

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, again = self.spec.name, self.spec.is_idempotent(method)
        return await self._link.call(name, f"{name}.{method}", (args, kwargs), self.spec.timeout, again=again)

    def subscribe(self, info: Any, listener: Subscriber) -> Established:
        check_subscriber(listener)
        key = topic(info)
        self._link.soon(self._subscribe, key, info, listener)
        return Established(functools.partial(self._established, key))

    def unsubscribe(self, info: Any, listener: Subscriber | None = None) -> None:
        self._link.soon(self._unsubscribe, topic(info), listener)

    def attribute(self, name: str) -> Any:
        cls = self.spec.cls.__name__
        raise AttributeError(
            f"a follower of {cls} has no {name!r}: it has the async methods, subscribe, unsubscribe and publish, and "
            f"what delegate() names"
        )

    # -- called by the link ----------------------------------------------------------------------------

    def subscribe_again(self) -> None:
        """Send all subscriptions to an agent that has just been connected."""
        for key, each in self._topics.items():
            self._link.tell("subscribe", (self.spec.name, key, each.info))

    def receive(self, key: bytes, value: Any) -> None:
        """Pass a value from the leader to the subscribers."""
        if found := self._topics.get(key):
            found.latest = (value,)
            for listener in list(found.subscribers):
                call_subscriber(listener, value, self.spec.name)

    # -- inside ----------------------------------------------------------------------------------------

    def _subscribe(self, key: bytes, info: Any, listener: Subscriber) -> None:
        found = self._topics.get(key)
        if found is None:
            found = self._topics[key] = Topic(info)
        self._link.tell("subscribe", (self.spec.name, key, info))  # each time: an earlier one may have failed
        found.subscribers.append(listener)
        for value in found.latest:
            call_subscriber(listener, value, self.spec.name)

    def _unsubscribe(self, key: bytes, listener: Subscriber | None) -> None:
        if found := self._topics.get(key):
            found.subscribers = [each for each in found.subscribers if listener is not None and each != listener]
            if not found.subscribers:
                del self._topics[key]
                self._link.tell("unsubscribe", (self.spec.name, key, None))

    async def _established(self, key: bytes) -> None:
        name, timeout = self.spec.name, self.spec.timeout
        await self._link.call(name, "subscribed", (name, key), timeout, again=True)
