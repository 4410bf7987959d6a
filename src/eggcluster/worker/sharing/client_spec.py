"""The application's description of a shared client: class, options, meanings of methods. Runs in all workers."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Meaning = Literal["invoke", "subscribe", "unsubscribe", "publish"]

LIFECYCLE_METHODS = ("start", "close")  # for the agent alone: a worker must not close the connection that all share
_IDEMPOTENT = "__egg_idempotent__"


def idempotent(method: F) -> F:
    """Mark a client's method that may be carried out twice. If the agent goes away during a call, the call is repeated
    with the next agent instead of raising LeaderGone."""
    setattr(method, _IDEMPOTENT, True)
    return method


@dataclass(frozen=True)
class ClientSpec:
    """The arguments of `create`, `delegate` and `cluster` for one client."""

    cls: type
    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    delegates: dict[str, Meaning]
    timeout: float

    def build(self) -> Any:
        """Return a new real client."""
        return self.cls(*self.args, **self.options)

    def differs_in(self, other: "ClientSpec") -> str:
        """Return what differs in another spec of the same name, in words; "" if they are equal."""
        found = ["class"] if self.cls is not other.cls else []
        found += ["argument"] if not _same(self.args, other.args) else []
        missing = object()
        for option in dict.fromkeys([*self.options, *other.options]):
            if not _same(self.options.get(option, missing), other.options.get(option, missing)):
                found.append(option)
        found += ["delegate()"] if self.delegates != other.delegates else []
        return ", ".join(found)

    def methods(self) -> dict[str, Meaning]:
        """Return the methods of followers: the meaning of each by name."""
        found: dict[str, Meaning] = {}
        for name in dir(self.cls):
            if name in ("subscribe", "unsubscribe", "publish"):
                found[name] = name  # type: ignore[assignment]  # it is one of the three
            elif (
                not name.startswith("_")
                and name not in LIFECYCLE_METHODS
                and inspect.iscoroutinefunction(self._attribute(name))
            ):
                found[name] = "invoke"
        return found | self.delegates

    def called(self, meaning: Meaning) -> str | None:
        """Return the name of the method with this meaning; None if there is none."""
        delegated = [name for name, what in self.delegates.items() if what == meaning]
        return next(iter(delegated + [name for name, what in self.methods().items() if what == meaning]), None)

    def is_idempotent(self, method: str) -> bool:
        return bool(getattr(self._attribute(method), _IDEMPOTENT, False))

    def _attribute(self, name: str) -> Any:
        return getattr(self.cls, name, None)


class ClusterClient(Generic[T]):
    """The result of `app.cluster(RegistryClient)`: call `delegate` as needed, then `create`."""

    def __init__(
        self, cls: type[T], open_client: Callable[[ClientSpec], Any], name: str | None = None, timeout: float = 5.0
    ) -> None:
        if not isinstance(cls, type):
            raise TypeError(f"a shared client is made from a class, not from {cls!r}")
        if not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
            raise ValueError(f"timeout: {timeout!r} is not a duration; use seconds above 0")
        self._cls = cls
        self._open = open_client
        self._name = name or cls.__name__
        self._timeout = timeout
        self._delegates: dict[str, Meaning] = {}

    def delegate(self, method: str, to: Meaning = "invoke") -> "ClusterClient[T]":
        """Give a method of the class the meaning `to`, where its name does not tell: `delegate("watch", "subscribe")`.
        `delegate("size")` makes a plain method callable; it runs in the agent's event loop and must not block. Raise
        ValueError for a meaning or a method that does not exist. Return this object."""
        if to not in get_args(Meaning):
            raise ValueError(f"delegate: {to!r} is not a meaning; use one of {', '.join(get_args(Meaning))}")
        if not callable(getattr(self._cls, method, None)) or method in LIFECYCLE_METHODS or method.startswith("_"):
            raise ValueError(f"delegate: {self._cls.__name__} has no method {method!r} for its followers")
        self._delegates[method] = to
        return self

    def create(self, *args: Any, **options: Any) -> T:
        """Return the client. In the agent it is the real client, made as `cls(*args, **options)`; in an app worker it
        is a follower with the same methods, which ignores the arguments; outside of a cluster it belongs to this
        process.

        The same name again returns the same client. Raise ValueError if class or options differ then.
        """
        client: T = self._open(ClientSpec(self._cls, self._name, args, options, dict(self._delegates), self._timeout))
        return client


def _same(one: Any, other: Any) -> bool:
    """Return whether they are equal. Objects whose comparison fails, such as arrays, are not."""
    try:
        return bool(one is other or one == other)
    except Exception:
        return False
