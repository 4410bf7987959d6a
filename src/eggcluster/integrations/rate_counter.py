"""Counts hits for rate limits on the shared dictionary, exactly over all workers. Runs in all workers."""

import asyncio
import hashlib
import logging
import sys
import time
from collections.abc import Awaitable, Coroutine
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, urlsplit

from eggcluster import MessengerError, SharedNotReady
from eggcluster.worker.context.current import shared_dictionary

PREFIX = "limits:"
MAX_PLAIN_KEY = 900  # bytes; a longer key is kept by its hash, because a client may choose a part of it
DEFAULT_TIMEOUT = 1.0  # seconds that a hung agent may delay one request; others are not delayed by it
LOG_INTERVAL = 10.0  # seconds between two warnings of one worker

Unavailable = Literal["serve", "refuse"]
T = TypeVar("T")
_logger = logging.getLogger("eggcluster.limits")


class RateCounter:
    """The counts of fixed windows, and the logs of moving ones.

    While there is no agent, or no room, every hit is answered at once as `unavailable` says. After an answer has not
    come within `timeout` seconds, nothing is asked for as long again: one request of a worker waits, not all of them.
    """

    def __init__(self, uri: str, options: dict[str, Any]) -> None:
        given = {**dict(parse_qsl(urlsplit(uri).query)), **options}
        self.unavailable = _unavailable(given.pop("unavailable", "refuse"))
        self.timeout = _timeout(given.pop("timeout", DEFAULT_TIMEOUT))
        if given:
            raise ValueError(f"eggcluster://: unknown option {min(given)!r}; there are unavailable and timeout")
        self._silent_until = 0.0
        self._log_again_at = 0.0
        self._shared = shared_dictionary()  # now, so that each worker that imports this starts with a copy

    # -- what to do ------------------------------------------------------------------------------------

    def count(self, key: str, expiry: float, amount: int) -> Coroutine[Any, Any, int]:
        """Count hits in a fixed window, which begins with the first one; return the sum."""
        return self._shared.increment(_key("n", key), amount, ttl=expiry)

    def admit(self, key: str, limit: int, expiry: float, amount: int) -> Coroutine[Any, Any, bool]:
        """Record hits in a moving window if the limit allows them."""
        return self._shared.admit(_key("w", key), limit, expiry, amount)

    async def clear(self, key: str) -> None:
        """Forget a key, of both kinds."""
        for kind in ("n", "w"):
            await self._shared.delete(_key(kind, key))

    async def reset(self) -> int:
        """Forget all keys; return how many there were."""
        keys = [key for key in self._shared if key.startswith(PREFIX)]
        return sum(await asyncio.gather(*(self._shared.delete(key) for key in keys)))

    # -- carrying it out -------------------------------------------------------------------------------

    def in_thread(self, work: Coroutine[Any, Any, T], served: T, refused: T) -> T:
        """Carry it out and wait in this thread, be it the event loop's. Answer as `unavailable` says if that is
        impossible now."""
        if not self.is_available():
            work.close()
            return self._answer("there is no agent now", served, refused)
        try:
            return self._shared.wait(work, self.timeout, blocks=True)
        except (MessengerError, TimeoutError) as error:
            return self._fail(error, served, refused)

    async def in_loop(self, work: Coroutine[Any, Any, T], served: T, refused: T) -> T:
        """Do the same as a coroutine."""
        if not self.is_available():
            work.close()
            return self._answer("there is no agent now", served, refused)
        try:
            return await _within(self.timeout, work)
        except (MessengerError, TimeoutError) as error:
            return self._fail(error, served, refused)

    def is_available(self) -> bool:
        """Return whether a hit would be counted now."""
        return self._shared.writable and time.monotonic() >= self._silent_until

    def _fail(self, error: Exception, served: T, refused: T) -> T:
        if isinstance(error, TimeoutError):
            self._silent_until = time.monotonic() + self.timeout
        return self._answer(str(error) or "no answer in time", served, refused)

    def _answer(self, why: str, served: T, refused: T) -> T:
        now = time.monotonic()
        if now >= self._log_again_at:
            self._log_again_at = now + LOG_INTERVAL
            _logger.warning("hits cannot be counted now (%s): unavailable=%s", why, self.unavailable)
        return served if self.unavailable == "serve" else refused

    # -- reading, from this worker's copy --------------------------------------------------------------

    def counted(self, key: str) -> int:
        """Return the sum of a fixed window."""
        try:
            return int(self._shared.get(_key("n", key), 0))
        except SharedNotReady:
            return 0 if self.unavailable == "serve" else sys.maxsize

    def window_end(self, key: str) -> float:
        """Return when a fixed window ends, in seconds of `time.time`; now if there is none."""
        try:
            left = self._shared.seconds_left(_key("n", key))
        except (KeyError, SharedNotReady):
            left = None
        return time.time() + (left or 0.0)

    def window(self, key: str, limit: int, expiry: float) -> tuple[float, int]:
        """Return when the oldest hit in a moving window was, in seconds of `time.time`, and how many there are."""
        now = time.time()
        try:
            ages = self._shared.admissions(_key("w", key), expiry)
        except SharedNotReady:
            return now, 0 if self.unavailable == "serve" else limit
        return now - (ages[0] if ages else 0.0), len(ages)


async def _within(timeout: float, work: Awaitable[T]) -> T:
    async with asyncio.timeout(timeout):
        return await work


def _key(kind: str, key: str) -> str:
    raw = key.encode("utf-8", "surrogatepass")
    plain = len(raw) <= MAX_PLAIN_KEY and not any(0xD800 <= ord(each) < 0xE000 for each in key)
    return f"{PREFIX}{kind}:{key if plain else hashlib.sha256(raw).hexdigest()}"


def _unavailable(value: str) -> Unavailable:
    if value == "serve":
        return "serve"
    if value == "refuse":
        return "refuse"
    raise ValueError(f"eggcluster://: unavailable={value!r}; use serve or refuse")


def _timeout(value: str | float) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 60:
        raise ValueError(f"eggcluster://: timeout={value!r} is not a duration; use seconds, above 0 and at most 60")
    return seconds
