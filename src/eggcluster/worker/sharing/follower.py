"""A follower: a shared client in an app worker, which has the real one's methods and none of its connections."""

import functools
from typing import Any, Protocol

from eggcluster.worker.sharing.client_spec import ClientSpec
from eggcluster.worker.sharing.shared_client import Established, Listener, call_listener, check_listener, topic


class AgentLink(Protocol):
    """The worker's connection to the agent."""

    async def call(self, name: str, action: str, data: Any, timeout: float, *, again: bool) -> Any:
        """Ask the leader `name`; with `again` once more where the agent goes away meanwhile."""

    def tell(self, action: str, data: Any) -> None:
        """Tell the agent, if it is there: who comes back later subscribes anew."""

    def soon(self, function: Any, *args: Any) -> None:
        """Call a function in the worker's event loop."""


class Topic:
    """What listeners of this worker subscribe to, and its latest value: a tuple of one, empty before the first."""

    def __init__(self, info: Any) -> None:
        self.info = info
        self.listeners: list[Listener] = []
        self.latest: tuple[Any, ...] = ()


class Follower:
    """Calls go to the leader; of what listeners subscribe to it keeps the latest value, for those who come later."""

    def __init__(self, blueprint: ClientSpec, wire: AgentLink) -> None:
        self.blueprint = blueprint
        self._wire = wire
        self._topics: dict[bytes, Topic] = {}

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, again = self.blueprint.name, self.blueprint.is_idempotent(method)
        return await self._wire.call(name, f"{name}.{method}", (args, kwargs), self.blueprint.timeout, again=again)

    def subscribe(self, info: Any, listener: Listener) -> Established:
        check_listener(listener)
        key = topic(info)
        self._wire.soon(self._subscribe, key, info, listener)
        return Established(functools.partial(self._established, key))

    def unsubscribe(self, info: Any, listener: Listener | None = None) -> None:
        self._wire.soon(self._unsubscribe, topic(info), listener)

    def attribute(self, name: str) -> Any:
        cls = self.blueprint.cls.__name__
        raise AttributeError(
            f"a follower of {cls} has no {name!r}: it has the async methods, subscribe, unsubscribe and publish, and "
            f"what delegate() names"
        )

    # -- called by the wire ----------------------------------------------------------------------------

    def subscribe_again(self) -> None:
        """There is an agent again, or for the first time: it has to be told."""
        for key, each in self._topics.items():
            self._wire.tell("subscribe", (self.blueprint.name, key, each.info))

    def receive(self, key: bytes, value: Any) -> None:
        """A value came."""
        if found := self._topics.get(key):
            found.latest = (value,)
            for listener in list(found.listeners):
                call_listener(listener, value, self.blueprint.name)

    # -- inside ----------------------------------------------------------------------------------------

    def _subscribe(self, key: bytes, info: Any, listener: Listener) -> None:
        found = self._topics.get(key)
        if found is None:
            found = self._topics[key] = Topic(info)
        self._wire.tell("subscribe", (self.blueprint.name, key, info))  # again, too: the first may have failed
        found.listeners.append(listener)
        for value in found.latest:
            call_listener(listener, value, self.blueprint.name)

    def _unsubscribe(self, key: bytes, listener: Listener | None) -> None:
        if found := self._topics.get(key):
            found.listeners = [each for each in found.listeners if listener is not None and each != listener]
            if not found.listeners:
                del self._topics[key]
                self._wire.tell("unsubscribe", (self.blueprint.name, key, None))

    async def _established(self, key: bytes) -> None:
        name, timeout = self.blueprint.name, self.blueprint.timeout
        await self._wire.call(name, "subscribed", (name, key), timeout, again=True)
