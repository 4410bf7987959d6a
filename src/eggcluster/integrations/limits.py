"""Storages for the library limits (slowapi, Flask-Limiter and others): exact over all workers, without Redis.

`import eggcluster.integrations.limits` registers them for `eggcluster://` and `async+eggcluster://`. See
docs/integrations.md. Runs in the agent and the app workers.
"""

import sys
from typing import Any

from eggcluster import EggclusterError
from eggcluster.integrations import not_installed
from eggcluster.integrations.rate_counter import RateCounter

try:
    from limits.aio.storage import MovingWindowSupport as AsyncMovingWindowSupport
    from limits.aio.storage import Storage as AsyncStorage
    from limits.storage import MovingWindowSupport, Storage
except ModuleNotFoundError as error:
    if error.name != "limits":
        raise
    raise not_installed("limits", "limits") from None

SPENT = sys.maxsize  # a count above every limit


class ClusterStorage(Storage, MovingWindowSupport):
    """The storage for synchronous code. In an event loop it blocks the worker while the agent answers, as that of Redis
    does: slowapi has no other way. Where there is a choice, use the asynchronous one there."""

    STORAGE_SCHEME: list[str] | None = ["eggcluster"]  # noqa: RUF012  # as the library declares it

    def __init__(self, uri: str = "eggcluster://", wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._counter = RateCounter(uri, options)

    @property
    def base_exceptions(self) -> type[Exception]:
        return EggclusterError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        return self._counter.in_thread(self._counter.count(key, expiry, amount), 0, SPENT)

    def get(self, key: str) -> int:
        return self._counter.counted(key)

    def get_expiry(self, key: str) -> float:
        return self._counter.window_end(key)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self._counter.in_thread(self._counter.admit(key, limit, expiry, amount), True, False)

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        return self._counter.window(key, limit, expiry)

    def check(self) -> bool:
        return self._counter.is_available()

    def clear(self, key: str) -> None:
        self._counter.in_thread(self._counter.clear(key), None, None)

    def reset(self) -> int | None:
        return self._counter.in_thread(self._counter.reset(), None, None)


class AsyncClusterStorage(AsyncStorage, AsyncMovingWindowSupport):
    """The storage for coroutines, in any event loop of a worker."""

    STORAGE_SCHEME: list[str] | None = ["async+eggcluster"]  # noqa: RUF012

    def __init__(self, uri: str = "async+eggcluster://", wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._counter = RateCounter(uri, options)

    @property
    def base_exceptions(self) -> type[Exception]:
        return EggclusterError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        return await self._counter.in_loop(self._counter.count(key, expiry, amount), 0, SPENT)

    async def get(self, key: str) -> int:
        return self._counter.counted(key)

    async def get_expiry(self, key: str) -> float:
        return self._counter.window_end(key)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return await self._counter.in_loop(self._counter.admit(key, limit, expiry, amount), True, False)

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        return self._counter.window(key, limit, expiry)

    async def check(self) -> bool:
        return self._counter.is_available()

    async def clear(self, key: str) -> None:
        await self._counter.in_loop(self._counter.clear(key), None, None)

    async def reset(self) -> int | None:
        return await self._counter.in_loop(self._counter.reset(), None, None)
