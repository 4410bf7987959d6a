"""The object that the application holds for a shared client, the same in the agent and in the app workers."""

from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, Protocol

from eggcluster.errors import NotSerializable
from eggcluster.packing import Encoder
from eggcluster.worker.current import here
from eggcluster.worker.sharing.blueprint import Blueprint, Meaning
from eggcluster.worker.sharing.listening import Listener

_encode = Encoder(order="deterministic").encode


class End(Protocol):
    """What stands behind the object: the leader itself, or the follower's way to it."""

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out a method of the real client."""

    def subscribe(self, info: Any, listener: Listener) -> "Established":
        """Call `listener` with the latest value, now if there is one, and with each that comes."""
        raise NotImplementedError

    def unsubscribe(self, info: Any, listener: Listener | None = None) -> None:
        """Call it no more; None: all of them."""

    def attribute(self, name: str) -> Any:
        """Anything else that is asked of the object; AttributeError where there is no such thing."""


class SharedClient:
    """Has the methods of its blueprint, each meaning what that says."""

    def __init__(self, blueprint: Blueprint, end: End) -> None:
        self._egg_blueprint = blueprint
        self._egg_end = end
        for name, meaning in blueprint.methods().items():
            setattr(self, name, _method(blueprint, end, name, meaning))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._egg_end.attribute(name)

    def __repr__(self) -> str:
        return f"<{type(self._egg_end).__name__.lower()} of {self._egg_blueprint.name}>"


class Established:
    """What `subscribe` gives. Awaiting it waits until the real client has subscribed, and raises what that raised;
    who does not care need not."""

    def __init__(self, wait: Callable[[], Awaitable[None]]) -> None:
        self._wait = wait

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()


def topic(info: Any) -> bytes:
    """The same for equal infos, whoever asks."""
    try:
        return _encode(info)
    except (TypeError, OverflowError, ValueError, RecursionError) as error:
        raise NotSerializable(f"MessagePack cannot carry what is to be subscribed to: {error}") from None


def _method(blueprint: Blueprint, end: End, name: str, meaning: Meaning) -> Callable[..., Any]:
    if meaning == "subscribe":
        return partial(_subscribe, blueprint, end)
    if meaning == "unsubscribe":
        return end.unsubscribe

    def method(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return end.call(name, args, kwargs)

    method.__name__ = method.__qualname__ = name
    return method


def _subscribe(blueprint: Blueprint, end: End, info: Any, listener: Listener) -> Established:
    established = end.subscribe(info, listener)
    here().declare(lambda place: place.sharing.create(blueprint)._egg_end.subscribe(info, listener))
    return established
