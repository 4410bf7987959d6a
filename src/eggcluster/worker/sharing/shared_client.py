"""Calling the application's listeners: whatever they raise is logged and ends nothing. Runs in agent and workers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, Protocol

from eggcluster.errors import NotSerializable
from eggcluster.kernel.tasks import is_cancellation
from eggcluster.packing import Encoder
from eggcluster.worker.sharing.client_spec import ClientSpec, Meaning

Subscriber = Callable[[Any], Any]

_logger = logging.getLogger("eggcluster.cluster_client")
_running: set[asyncio.Task[None]] = set()  # a task without a reference may be collected as garbage


def check_subscriber(subscriber: Any) -> None:
    """TypeError for what cannot be called, where it is handed over and not when the first value comes."""
    if not callable(subscriber):
        raise TypeError(f"a listener is a function of one argument, not {subscriber!r}")


def call_subscriber(subscriber: Subscriber, value: Any, what: str) -> None:
    """Call a plain listener now, let an async one run. `what` says in the log what it listens to."""
    try:
        result = subscriber(value)
    except BaseException:
        _logger.exception("a listener of %s raised", what)
        return
    if isinstance(result, Coroutine):
        task = asyncio.get_running_loop().create_task(_logged(result, what))
        _running.add(task)
        task.add_done_callback(_running.discard)


async def _logged(work: Coroutine[Any, Any, Any], what: str) -> None:
    try:
        await work
    except BaseException as error:
        if is_cancellation(error):
            raise
        _logger.exception("a listener of %s raised", what)


_encode = Encoder(order="deterministic").encode


# Takes what another worker that shares the module does with its own sharing.
Declare = Callable[[Callable[[Any], object]], None]


class ClientBackend(Protocol):
    """What stands behind the object: the leader itself, or the follower's way to it."""

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out a method of the real client."""

    def subscribe(self, info: Any, subscriber: Subscriber) -> "Established":
        """Call `subscriber` with the latest value, now if there is one, and with each that comes."""
        raise NotImplementedError

    def unsubscribe(self, info: Any, subscriber: Subscriber | None = None) -> None:
        """Call it no more; None: all of them."""

    def attribute(self, name: str) -> Any:
        """Anything else that is asked of the object; AttributeError where there is no such thing."""


class SharedClient:
    """Has the methods of its blueprint, each meaning what that says."""

    def __init__(self, spec: ClientSpec, end: ClientBackend, declare: Declare = lambda repeat: None) -> None:
        self._egg_spec = spec
        self._egg_backend = end
        for name, meaning in spec.methods().items():
            setattr(self, name, _method(spec, end, declare, name, meaning))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._egg_backend.attribute(name)

    def __repr__(self) -> str:
        return f"<{type(self._egg_backend).__name__.lower()} of {self._egg_spec.name}>"


class Established:
    """What `subscribe` gives. Awaiting it waits until the real client has subscribed, and raises what that raised;
    awaiting it is optional."""

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


def _method(spec: ClientSpec, end: ClientBackend, declare: Declare, name: str, meaning: Meaning) -> Callable[..., Any]:
    if meaning == "subscribe":
        return partial(_subscribe, spec, end, declare)
    if meaning == "unsubscribe":
        return end.unsubscribe

    def method(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return end.call(name, args, kwargs)

    method.__name__ = method.__qualname__ = name
    return method


def _subscribe(
    spec: ClientSpec, end: ClientBackend, declare: Declare, info: Any, subscriber: Subscriber
) -> Established:
    established = end.subscribe(info, subscriber)
    declare(lambda sharing: sharing.create(spec)._egg_backend.subscribe(info, subscriber))
    return established
