"""Shared clients as the application sees them, and calls of its subscribers. Runs in the agent and the app workers."""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, Protocol

from eggcluster.errors import NotSerializable
from eggcluster.kernel.tasks import TaskSet, is_cancellation
from eggcluster.packing import Encoder
from eggcluster.worker.sharing.client_spec import ClientSpec, Meaning

Subscriber = Callable[[Any], Any]

_logger = logging.getLogger("eggcluster.cluster_client")
_running = TaskSet()


def check_subscriber(listener: Any) -> None:
    """Raise TypeError for an object that cannot be called, at the subscription and not at the first value."""
    if not callable(listener):
        raise TypeError(f"a subscriber is a function of one argument, not {listener!r}")


def call_subscriber(listener: Subscriber, value: Any, what: str) -> None:
    """Call a plain subscriber now, start an async one as a task. Log what it raises; `what` names the subscription."""
    try:
        result = listener(value)
    except BaseException:
        _logger.exception("a subscriber of %s raised", what)
        return
    if isinstance(result, Coroutine):
        _running.start(_logged(result, what))


async def _logged(work: Coroutine[Any, Any, Any], what: str) -> None:
    try:
        await work
    except BaseException as error:
        if is_cancellation(error):
            raise
        _logger.exception("a subscriber of %s raised", what)


_encode = Encoder(order="deterministic").encode


# Registers a function that each other worker sharing the module calls with its own sharing.
Declare = Callable[[Callable[[Any], object]], None]


class ClientBackend(Protocol):
    """The implementation of a shared client: a leader or a follower."""

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out a method of the real client."""

    def subscribe(self, info: Any, listener: Subscriber) -> "Established":
        """Call `listener` with the latest value, now if there is one, and with each later value."""
        raise NotImplementedError

    def unsubscribe(self, info: Any, listener: Subscriber | None = None) -> None:
        """Stop calling `listener`; None stops all subscribers."""

    def attribute(self, name: str) -> Any:
        """Return any other attribute; raise AttributeError if there is none."""


class SharedClient:
    """Has the methods of its ClientSpec, with the meanings that the spec gives them."""

    def __init__(self, spec: ClientSpec, backend: ClientBackend, declare: Declare = lambda repeat: None) -> None:
        self._egg_spec = spec
        self._egg_backend = backend
        for name, meaning in spec.methods().items():
            setattr(self, name, _method(spec, backend, declare, name, meaning))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._egg_backend.attribute(name)

    def __repr__(self) -> str:
        return f"<{type(self._egg_backend).__name__.lower()} of {self._egg_spec.name}>"


class Established:
    """The result of `subscribe`. Awaiting it is optional: it waits until the real client has subscribed, and raises
    what that raised."""

    def __init__(self, wait: Callable[[], Awaitable[None]]) -> None:
        self._wait = wait

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()


def topic(info: Any) -> bytes:
    """Return the same bytes for equal infos."""
    try:
        return _encode(info)
    except (TypeError, OverflowError, ValueError, RecursionError) as error:
        raise NotSerializable(f"MessagePack cannot carry what is to be subscribed to: {error}") from None


def _method(
    spec: ClientSpec, backend: ClientBackend, declare: Declare, name: str, meaning: Meaning
) -> Callable[..., Any]:
    if meaning == "subscribe":
        return partial(_subscribe, spec, backend, declare)
    if meaning == "unsubscribe":
        return backend.unsubscribe

    def method(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return backend.call(name, args, kwargs)

    method.__name__ = method.__qualname__ = name
    return method


def _subscribe(
    spec: ClientSpec, backend: ClientBackend, declare: Declare, info: Any, listener: Subscriber
) -> Established:
    established = backend.subscribe(info, listener)
    declare(lambda sharing: sharing.create(spec)._egg_backend.subscribe(info, listener))
    return established
