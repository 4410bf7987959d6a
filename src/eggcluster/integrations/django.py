"""A cache backend for Django on the shared dictionary: every worker reads its own copy, without Redis or memcached.

`CACHES = {"default": {"BACKEND": "eggcluster.integrations.django.Cache"}}`. See docs/integrations.md. Runs in the agent
and the app workers.
"""

import pickle
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import quote

from eggcluster import LeaderGone, SharedFull, SharedNotReady
from eggcluster.integrations import not_installed
from eggcluster.integrations.culling import Culling, side_by_side
from eggcluster.worker.context.current import shared_dictionary

try:
    from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
except ModuleNotFoundError as error:
    if error.name != "django":
        raise
    raise not_installed("django", "django") from None

MAX_ENTRIES = 5000  # of the 10,000 keys that may be shared; the application has keys of its own

T = TypeVar("T")


class Cache(BaseCache):  # type: ignore[misc]  # Django has no types
    """Django's cache contract. Reads are local; writes are decided by the agent, so `add` and `incr` are atomic.

    A value beyond the limits of `shared` is not kept, and what the key held before is deleted; the log says so. At
    MAX_ENTRIES, and where `shared` is full, the entries that were written longest ago go: one in CULL_FREQUENCY. While
    the agent is replaced, reads go on and writes wait for up to 5 s (then RequestTimeout). Synchronous writes are for
    threads; in the event loop use the asynchronous methods (RuntimeError otherwise).
    """

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        options = params.get("OPTIONS", {})
        limit = options.get("MAX_ENTRIES", params.get("MAX_ENTRIES", MAX_ENTRIES))
        super().__init__({**params, "OPTIONS": {**options, "MAX_ENTRIES": limit}})
        self._prefix = f"django:{quote(location, safe='')}:"  # no prefix of another location's
        self._shared = shared_dictionary()  # now, so that each worker that imports this starts with a copy
        self._culling = Culling(self._prefix, self._max_entries, self._cull_frequency)

    # -- reading -----------------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        return self._value(self._name(key, version), default)

    def has_key(self, key: str, version: int | None = None) -> bool:
        try:
            return self._name(key, version) in self._shared
        except SharedNotReady:
            return False

    def get_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        missing = object()
        found = {key: self.get(key, missing, version) for key in keys}
        return {key: value for key, value in found.items() if value is not missing}

    async def aget(self, key: str, default: Any = None, version: int | None = None) -> Any:
        return self.get(key, default, version)

    async def ahas_key(self, key: str, version: int | None = None) -> bool:
        return self.has_key(key, version)

    async def aget_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        return self.get_many(keys, version)

    # -- writing in threads ------------------------------------------------------------------------------

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        self._shared.wait(self.aset(key, value, timeout, version))

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return self._shared.wait(self.aadd(key, value, timeout, version))

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return self._shared.wait(self.atouch(key, timeout, version))

    def delete(self, key: str, version: int | None = None) -> bool:
        return self._shared.wait(self.adelete(key, version))

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> Any:
        return self._shared.wait(self.aincr(key, delta, version))

    def set_many(self, data: dict[str, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> list[str]:
        return self._shared.wait(self.aset_many(data, timeout, version))

    def delete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        self._shared.wait(self.adelete_many(keys, version))

    def clear(self) -> None:
        self._shared.wait(self.aclear())

    # -- writing in coroutines ---------------------------------------------------------------------------

    async def aset(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        await self._set(key, value, timeout, version)

    async def aadd(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        name, ttl, raw = self._name(key, version), self._ttl(timeout), _packed(value)
        if ttl is not None and ttl <= 0:  # it would have expired at once
            return name not in self._shared
        try:
            added = await self._culling.write(name, lambda: self._shared.compare_and_set(name, 0, raw, ttl=ttl))
        except SharedFull as error:
            self._culling.log(error)
            return False
        return added is not None

    async def atouch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        name, ttl = self._name(key, version), self._ttl(timeout)
        if ttl is not None and ttl <= 0:
            return await _again(lambda: self._shared.delete(name))
        await self._shared.ready()
        while known := self._shared.version(name):
            raw = self._shared.get(name)  # read after the version: if it is newer than that, the write is refused
            if raw is not None and await self._shared.compare_and_set(name, known, raw, ttl=ttl) is not None:
                return True
        return False

    async def adelete(self, key: str, version: int | None = None) -> bool:
        name = self._name(key, version)
        return await _again(lambda: self._shared.delete(name))

    async def aincr(self, key: str, delta: int = 1, version: int | None = None) -> Any:
        result = await self._shared.increment(self._name(key, version), delta, create=False)
        if result is None:
            raise ValueError(f"Key {key!r} not found")
        return result

    async def aset_many(
        self, data: dict[str, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[str]:
        kept = await side_by_side(data.items(), lambda item: self._set(item[0], item[1], timeout, version))
        return [key for key, is_kept in zip(data, kept, strict=True) if not is_kept]

    async def adelete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        await side_by_side(keys, lambda key: self.adelete(key, version))

    async def aclear(self) -> None:
        await self._shared.ready()
        await side_by_side(self._culling.names(), self._shared.delete)

    # -- values and keys ---------------------------------------------------------------------------------

    def _name(self, key: str, version: int | None) -> str:
        return self._prefix + str(self.make_and_validate_key(key, version=version))

    def _value(self, name: str, default: Any) -> Any:
        try:
            raw = self._shared[name]
        except (KeyError, SharedNotReady):  # a cache may miss
            return default
        return pickle.loads(raw) if isinstance(raw, bytes) else raw

    def _ttl(self, timeout: Any) -> float | None:
        """Return the seconds to live; None: for good. At 0 or below an entry has expired at once."""
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return None if seconds is None else float(seconds)

    async def _set(self, key: str, value: Any, timeout: Any, version: int | None) -> bool:
        """Set the key; return False if the value is not kept, and neither is what was there before."""
        name, ttl, raw = self._name(key, version), self._ttl(timeout), _packed(value)
        if ttl is not None and ttl <= 0:
            await _again(lambda: self._shared.delete(name))
            return True
        try:
            await self._culling.write(name, lambda: _again(lambda: self._shared.set(name, raw, ttl=ttl)))
        except SharedFull as error:
            await _again(lambda: self._shared.delete(name))
            self._culling.log(error)
            return False
        return True


def _packed(value: Any) -> Any:
    """Return what is shared for a value: numbers as they are, because the agent adds to them, all else pickled."""
    if type(value) is float or (type(value) is int and -(2**63) <= value < 2**63):
        return value
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


async def _again(write: Callable[[], Awaitable[T]]) -> T:
    """Carry out a write that may be done twice: once more if the agent goes away meanwhile."""
    try:
        return await write()
    except LeaderGone:
        return await write()
