"""`app.shared`, `agent.shared`: the dictionary that every worker may read. Runs in agent and app workers."""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, overload

from eggcluster.errors import NotSerializable, SharedNotReady
from eggcluster.model.shared.shared_store import CompareAndSet, Delete, Increment, Set, Write, check_size
from eggcluster.model.shared.shared_table import Change as TableChange
from eggcluster.model.shared.shared_table import Table
from eggcluster.packing import Decoder, Encoder
from eggcluster.worker.sharing.shared_client import call_subscriber, check_subscriber


class Change(NamedTuple):
    """What an `on_change` listener gets. `value` is None where the key was deleted or has expired."""

    key: str
    value: Any
    version: int
    deleted: bool


FOR_GOOD = 100 * 365 * 86400.0  # seconds; no machine runs for so long, and a clock can be added to them

OnChange = Callable[[Change], Any]
_L = TypeVar("_L", bound=OnChange)
_encode = Encoder().encode
_decode = Decoder().decode


class SharedBackend(Protocol):
    """Where the table is kept up to date, and writes are carried out."""

    @property
    def table(self) -> Table | None:
        """None while there is no copy yet."""

    def write(self, write: Write) -> Awaitable[Any]:
        """Carry it out; returns when this process reads it, and every worker that keeps up has it."""
        raise NotImplementedError

    def ready(self) -> Awaitable[None]:
        """Wait until there is a table."""
        raise NotImplementedError

    def declare(self, repeat: Callable[[Any], object]) -> None:
        """Call `repeat` with the sharing of each other worker that shares the module which registers something."""


class Shared(Mapping[str, Any]):
    """A small dictionary of what MessagePack carries. Reading is local and immediate; it gives a new object each time,
    to do with as one likes. Writes go through the agent, in one order for all; once awaited they are readable here.

    Writes raise `SharedFull`, `NotSerializable`, `LeaderGone` where the agent went away meanwhile (it may or may not
    have been done), `RequestTimeout`. `ttl` is in seconds. Readers get `SharedNotReady` where there is no copy yet.
    A key that is no string is a TypeError everywhere, one with a lone surrogate is a ValueError: it cannot have been
    set.
    """

    def __init__(self, backend: SharedBackend) -> None:
        self._backend = backend
        self._subscribers: dict[str, list[OnChange]] = {}
        self._prefix_subscribers: dict[str, list[OnChange]] = {}

    async def ready(self) -> None:
        """Wait until this worker has a copy. At its start it waits by itself, if it knows of `shared` by then."""
        await self._backend.ready()

    # -- reading ---------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Any:
        entry = self._table.find(_key(key), time.monotonic())
        if entry is None or entry.raw is None:
            raise KeyError(key)
        return _decode(entry.raw)

    def __iter__(self) -> Iterator[str]:
        now = time.monotonic()
        return iter([key for key, entry in list(self._table.entries.items()) if entry.lives(now)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return self._table.find(_key(key), time.monotonic()) is not None

    def version(self, key: str) -> int:
        """The number of the key's last change, for `compare_and_set`; 0 where there is no such key."""
        entry = self._table.find(_key(key), time.monotonic())
        return entry.version if entry is not None else 0

    @property
    def _table(self) -> Table:
        table = self._backend.table
        if table is None:
            raise SharedNotReady(
                "this worker has no copy of what is shared yet: name `app.shared` where the module is imported, "
                "or `await app.shared.ready()` first"
            )
        return table

    # -- writing ---------------------------------------------------------------------------------------

    async def set(self, key: str, value: Any, *, ttl: float | None = None) -> int:
        """Set it, for good or for `ttl` seconds; gives the new version."""
        version: int = await self._backend.write(Set(_key(key), _raw(key, value), _ttl(ttl)))
        return version

    async def delete(self, key: str) -> bool:
        """Delete it; False where there was no such key."""
        found: bool = await self._backend.write(Delete(_key(key)))
        return found

    async def compare_and_set(self, key: str, expected: int, value: Any, *, ttl: float | None = None) -> int | None:
        """Set it only if its version is still `expected` (0: if there is no such key); gives the new version, None
        if another write came first. TypeError where `expected` is no int."""
        if isinstance(expected, bool) or not isinstance(expected, int):
            raise TypeError(f"expected: {expected!r} is no version; use what version() or a write gave, 0 for no key")
        write = CompareAndSet(_key(key), expected, _raw(key, value), _ttl(ttl))
        version: int | None = await self._backend.write(write)
        return version

    async def increment(self, key: str, by: float = 1, *, ttl: float | None = None) -> Any:
        """Add to a number and give the new one; what is not there counts as 0, and then lives for `ttl` seconds. Of
        an existing key the time left stays. TypeError where it holds something else."""
        if isinstance(by, bool) or not isinstance(by, (int, float)):
            raise TypeError(f"by: {by!r} is no number")
        if isinstance(by, int) and not -(2**63) <= by < 2**64:
            raise ValueError("by: it does not fit 64 bits")
        return await self._backend.write(Increment(_key(key), by, _ttl(ttl)))

    # -- hearing of changes ----------------------------------------------------------------------------

    @overload
    def on_change(self, key: str | None = None, *, prefix: str | None = None) -> Callable[[_L], _L]: ...
    @overload
    def on_change(self, key: str | None = None, subscriber: _L = ..., *, prefix: str | None = None) -> _L: ...
    def on_change(self, key: str | None = None, subscriber: Any = None, *, prefix: str | None = None) -> Any:
        """Call `subscriber` with the `Change` whenever `key` changes, or a key that begins with `prefix` ("" is all),
        whichever worker changed it. Also a decorator. A worker that is too slow gets the latest change only."""
        if (key is None) == (prefix is None):
            raise ValueError("on_change: name a key, or prefix=...")
        by_key, name = (self._subscribers, key) if key is not None else (self._prefix_subscribers, prefix)
        _key(name)

        def register(function: Any) -> Any:
            check_subscriber(function)
            by_key.setdefault(str(name), []).append(function)
            self._backend.declare(lambda sharing: sharing.shared.on_change(key, function, prefix=prefix))
            return function

        return register if subscriber is None else register(subscriber)

    def off_change(self, subscriber: OnChange) -> None:
        """Call it no more, for whichever keys."""
        for by_key in (self._subscribers, self._prefix_subscribers):
            for name, subscribers in list(by_key.items()):
                by_key[name] = [each for each in subscribers if each != subscriber]

    def notify(self, change: TableChange) -> None:
        """Tell the subscribers that the table has changed. Called by the keeper of the table."""
        if not self._subscribers and not self._prefix_subscribers:
            return
        key, entry = change
        subscribers = list(self._subscribers.get(key, ()))
        for prefix, more in self._prefix_subscribers.items():
            if key.startswith(prefix):
                subscribers += more
        for subscriber in subscribers:  # each its own value: one may change it
            value = _decode(entry.raw) if entry.raw is not None else None
            call_subscriber(subscriber, Change(key, value, entry.version, entry.raw is None), f"shared[{key!r}]")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key is a string, not {key!r}")
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            raise ValueError(f"a key is text, which {key!r} is not: it has a lone surrogate") from None
    return key


def _raw(key: str, value: Any) -> bytes:
    try:
        raw = _encode(value)
    except (TypeError, OverflowError, ValueError, RecursionError) as error:
        raise NotSerializable(f"MessagePack cannot carry this: {error}") from None
    check_size(key, raw)
    return raw


def _ttl(ttl: float | None) -> float | None:
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not ttl > 0:
        raise ValueError(f"ttl: {ttl!r} is no time; use seconds above 0")
    return float(ttl) if ttl < FOR_GOOD else None
