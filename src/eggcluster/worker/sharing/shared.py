"""`app.shared`, `agent.shared`: the dictionary that all workers share. Runs in the agent and the app workers."""

import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, overload

from eggcluster.errors import NotSerializable, SharedNotReady
from eggcluster.model.shared.shared_store import (
    Admit,
    CompareAndSet,
    Delete,
    Increment,
    Set,
    Write,
    check_size,
    read_admissions,
)
from eggcluster.model.shared.shared_table import Change as TableChange
from eggcluster.model.shared.shared_table import Table
from eggcluster.packing import Decoder, Encoder
from eggcluster.worker.sharing.shared_client import call_subscriber, check_subscriber


class Change(NamedTuple):
    """The argument of an `on_change` subscriber. `value` is None if the key was deleted or has expired."""

    key: str
    value: Any
    version: int
    deleted: bool


MAX_TTL = 100 * 365 * 86400.0  # seconds; longer than any machine runs, and small enough to be added to a clock

MAX_ADMISSIONS = 8000  # that a moving window may hold: 8 bytes each, of the 64 KiB that a value may have

OnChange = Callable[[Change], Any]
_T = TypeVar("_T")
_L = TypeVar("_L", bound=OnChange)
_encode = Encoder().encode
_decode = Decoder().decode


class SharedBackend(Protocol):
    """Keeps the table up to date and carries out writes."""

    @property
    def table(self) -> Table | None:
        """The table; None while there is no copy yet."""

    def write(self, write: Write) -> Awaitable[Any]:
        """Carry out a write; return when this process and every worker that keeps up can read it."""
        raise NotImplementedError

    @property
    def writable(self) -> bool:
        """Whether a write begins at once: there is an agent, and it takes writes."""
        raise NotImplementedError

    def wait(self, work: Coroutine[Any, Any, _T], timeout: float | None, *, blocks: bool) -> _T:
        """Carry out `work` in the worker's event loop, and wait for it in this thread, as `Shared.wait`."""
        raise NotImplementedError

    def ready(self) -> Awaitable[None]:
        """Wait until there is a table."""
        raise NotImplementedError

    def declare(self, repeat: Callable[[Any], object]) -> None:
        """Call `repeat` with the sharing of each other worker that shares the registering module."""


class Shared(Mapping[str, Any]):
    """A small dictionary of what MessagePack carries. Reading is local and immediate, and returns a new object each
    time. Writes go through the agent, in one order for all workers; once awaited, they are readable here.

    Writes raise `SharedFull`, `NotSerializable`, `RequestTimeout`, or `LeaderGone` if the agent went away meanwhile
    (the write may or may not have been carried out). `ttl` is in seconds. Reading raises `SharedNotReady` if there is
    no copy yet. A key that is not a string raises TypeError; a key with a lone surrogate raises ValueError.
    """

    def __init__(self, backend: SharedBackend) -> None:
        self._backend = backend
        self._subscribers: dict[str, list[OnChange]] = {}
        self._prefix_subscribers: dict[str, list[OnChange]] = {}

    async def ready(self) -> None:
        """Wait until this worker has a copy. A worker that uses `shared` before its start waits there."""
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
        """Return the version of the key's last change, for `compare_and_set`; 0 if there is no such key."""
        entry = self._table.find(_key(key), time.monotonic())
        return entry.version if entry is not None else 0

    def seconds_left(self, key: str) -> float | None:
        """Return the seconds until the key expires; None if it lives for good. KeyError if there is no such key."""
        now = time.monotonic()
        entry = self._table.find(_key(key), now)
        if entry is None:
            raise KeyError(key)
        return None if entry.expires is None else entry.expires - now

    def admissions(self, key: str, window: float) -> list[float]:
        """Return how many seconds ago each admission of the last `window` seconds was (`admit`), the oldest first."""
        now = time.monotonic()
        entry = self._table.find(_key(key), now)
        return [max(now - instant, 0.0) for instant in read_admissions(key, entry, now - window)]

    @property
    def _table(self) -> Table:
        table = self._backend.table
        if table is None:
            raise SharedNotReady(
                "this worker has no copy of the shared dictionary yet: use `app.shared` where the module is imported, "
                "or `await app.shared.ready()` first"
            )
        return table

    # -- writing ---------------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether a write is taken at once. It is not while the agent is being replaced: then writes wait. The
        agent may go in the next moment all the same."""
        return self._backend.writable

    def wait(self, work: Coroutine[Any, Any, _T], timeout: float | None = None, *, blocks: bool = False) -> _T:
        """Carry out a write, or a coroutine that makes several, and wait for its result in this thread:
        `shared.wait(shared.increment("n"))` in a WSGI view. It runs in the worker's event loop, so it costs no loop of
        its own. Raise what it raises, RequestTimeout after `timeout` seconds (the write may be carried out all the
        same), and RuntimeError in the event loop itself: `await` there.

        With `blocks=True` the event loop may wait, too, for libraries that know no other way: it stands still until the
        agent answers over a second connection, and reads its own write only when it runs again. LeaderGone if there is
        no agent.
        """
        return self._backend.wait(work, timeout, blocks=blocks)

    async def set(self, key: str, value: Any, *, ttl: float | None = None) -> int:
        """Set the key, for good or for `ttl` seconds; return the new version."""
        version: int = await self._backend.write(Set(_key(key), _raw(key, value), _ttl(ttl)))
        return version

    async def delete(self, key: str) -> bool:
        """Delete the key; return False if there was none."""
        found: bool = await self._backend.write(Delete(_key(key)))
        return found

    async def compare_and_set(self, key: str, expected: int, value: Any, *, ttl: float | None = None) -> int | None:
        """Set the key only if its version is still `expected` (0: there is no such key). Return the new version, or
        None if another write came first. Raise TypeError if `expected` is not an int."""
        if isinstance(expected, bool) or not isinstance(expected, int):
            raise TypeError(
                f"expected: {expected!r} is not a version; use the result of version() or of a write, 0 for no key"
            )
        write = CompareAndSet(_key(key), expected, _raw(key, value), _ttl(ttl))
        version: int | None = await self._backend.write(write)
        return version

    async def increment(self, key: str, by: float = 1, *, ttl: float | None = None, create: bool = True) -> Any:
        """Add to a number and return the new one. A missing key counts as 0 and then lives for `ttl` seconds; an
        existing key keeps its remaining time. With `create=False` a missing key stays missing, and None is returned.
        Raise TypeError if the value is not a number."""
        if isinstance(by, bool) or not isinstance(by, (int, float)):
            raise TypeError(f"by: {by!r} is not a number")
        if isinstance(by, int) and not -(2**63) <= by < 2**64:
            raise ValueError("by: it does not fit 64 bits")
        return await self._backend.write(Increment(_key(key), by, _ttl(ttl), create))

    async def admit(self, key: str, limit: int, window: float, amount: int = 1) -> bool:
        """Record `amount` admissions if at most `limit` then lie within the last `window` seconds; else return False
        and change nothing. The agent decides, so the limit is exact over all workers. The key takes 8 bytes for each
        admission in the window, so `limit` is at most MAX_ADMISSIONS: ValueError beyond. The key lives until its last
        admission has left the window."""
        if not 0 < limit <= MAX_ADMISSIONS or amount < 0:
            raise ValueError(
                f"admit: the limit {limit} is not in 1 to {MAX_ADMISSIONS}, or the amount {amount} is negative"
            )
        if not 0 < window < MAX_TTL:
            raise ValueError(f"window: {window!r} is not a duration; use seconds above 0")
        admitted: bool = await self._backend.write(Admit(_key(key), limit, float(window), amount))
        return admitted

    # -- subscriptions ---------------------------------------------------------------------------------

    @overload
    def on_change(self, key: str | None = None, *, prefix: str | None = None) -> Callable[[_L], _L]: ...
    @overload
    def on_change(self, key: str | None = None, listener: _L = ..., *, prefix: str | None = None) -> _L: ...
    def on_change(self, key: str | None = None, listener: Any = None, *, prefix: str | None = None) -> Any:
        """Call `listener` with the `Change` whenever `key` changes, or a key that begins with `prefix` ("" is all),
        whichever worker changed it. Also a decorator. A slow worker gets only the latest change."""
        if (key is None) == (prefix is None):
            raise ValueError("on_change: give a key or prefix=...")
        by_key, name = (self._subscribers, key) if key is not None else (self._prefix_subscribers, prefix)
        _key(name)

        def register(function: Any) -> Any:
            check_subscriber(function)
            by_key.setdefault(str(name), []).append(function)
            self._backend.declare(lambda sharing: sharing.shared.on_change(key, function, prefix=prefix))
            return function

        return register if listener is None else register(listener)

    def off_change(self, listener: OnChange) -> None:
        """Stop calling `listener`, for all keys."""
        for by_key in (self._subscribers, self._prefix_subscribers):
            for name, subscribers in list(by_key.items()):
                by_key[name] = [each for each in subscribers if each != listener]

    def notify(self, change: TableChange) -> None:
        """Tell the subscribers that the table has changed. The owner of the table calls this."""
        if not self._subscribers and not self._prefix_subscribers:
            return
        key, entry = change
        subscribers = list(self._subscribers.get(key, ()))
        for prefix, more in self._prefix_subscribers.items():
            if key.startswith(prefix):
                subscribers += more
        for listener in subscribers:  # each gets its own object, because it may modify it
            value = _decode(entry.raw) if entry.raw is not None else None
            call_subscriber(listener, Change(key, value, entry.version, entry.raw is None), f"shared[{key!r}]")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key is a string, not {key!r}")
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the key {key!r} has a lone surrogate: use text that UTF-8 can encode") from None
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
        raise ValueError(f"ttl: {ttl!r} is not a duration; use seconds above 0")
    return float(ttl) if ttl < MAX_TTL else None
