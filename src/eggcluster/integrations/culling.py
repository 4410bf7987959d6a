"""Keeps a cache within its bounds: deletes the entries that were written longest ago. Runs in all workers."""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from eggcluster import SharedFull, SharedTooLarge
from eggcluster.worker.context.current import shared_dictionary

LOG_INTERVAL = 10.0  # seconds between two warnings of one worker about values that were not kept
PARALLEL = 256  # writes that one call has under way

T = TypeVar("T")
_logger = logging.getLogger("eggcluster.cache")


class Pace:
    """How long all caches of one prefix in this process wait until they count, and log, again. Django makes a cache
    object for each thread, and in an event loop for each request, so none of them could remember it."""

    def __init__(self) -> None:
        self.until_count = 0  # new keys that may be written before all are counted again
        self.log_again_at = 0.0


@functools.cache
def pace_of(prefix: str) -> Pace:
    """Return what the caches of this prefix have in common."""
    return Pace()


class Culling:
    """The entries whose keys begin with `prefix`. When there are `max_entries`, or the shared dictionary is full, one
    in `cull_frequency` is deleted; all of them at 0."""

    def __init__(self, prefix: str, max_entries: int, cull_frequency: int) -> None:
        self._prefix = prefix
        self._max_entries = max_entries
        self._cull_frequency = cull_frequency
        self._pace = pace_of(prefix)
        self._shared = shared_dictionary()

    def names(self) -> list[str]:
        """Return the keys of the entries in this worker's copy."""
        return [each for each in self._shared if each.startswith(self._prefix)]

    async def write(self, name: str, write: Callable[[], Awaitable[T]]) -> T:
        """Carry out a write to the key `name`, with room for it; if the dictionary is full all the same, cull and try
        once more. SharedFull if there is still no room, SharedTooLarge if no room would be enough."""
        await self._make_room(name)
        try:
            return await write()
        except SharedTooLarge:
            raise
        except SharedFull:
            await self._cull(self.names())
            return await write()

    async def _make_room(self, name: str) -> None:
        """Cull if there are too many entries. They are counted once in a while, because that takes a millisecond: at
        most a sixteenth above the bound is written by each worker in between."""
        await self._shared.ready()
        if name in self._shared:
            return
        self._pace.until_count -= 1
        if self._pace.until_count < 0:
            names = self.names()
            if len(names) >= self._max_entries:
                await self._cull(names)
            self._pace.until_count = min(max(self._max_entries - len(names) - 1, 0), self._max_entries // 16)

    async def _cull(self, names: list[str]) -> None:
        count = len(names) // self._cull_frequency if self._cull_frequency else len(names)
        await side_by_side(sorted(names, key=self._shared.version)[: max(count, 1)], self._shared.delete)

    def log(self, error: SharedFull) -> None:
        """Warn that a value is not kept, at most every LOG_INTERVAL seconds."""
        now = time.monotonic()
        if now >= self._pace.log_again_at:
            self._pace.log_again_at = now + LOG_INTERVAL
            _logger.warning("a value is not cached: %s", error)


async def side_by_side(items: Iterable[Any], write: Callable[[Any], Awaitable[T]]) -> list[T]:
    """Carry out the writes side by side, PARALLEL at a time; return their results in order."""
    left, done = list(items), list[T]()
    for begin in range(0, len(left), PARALLEL):
        done += await asyncio.gather(*(write(each) for each in left[begin : begin + PARALLEL]))
    return done
