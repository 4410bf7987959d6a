"""The storages for `limits`, without a cluster: the strategies of that library, and the URI's options."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from limits import RateLimitItemPerHour, RateLimitItemPerSecond
from limits.aio.strategies import FixedWindowRateLimiter as AsyncFixedWindowRateLimiter
from limits.aio.strategies import MovingWindowRateLimiter as AsyncMovingWindowRateLimiter
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from eggcluster.integrations import limits as integration
from eggcluster.worker.context.current import current_context, shared_dictionary
from tests.waiting import wait_until

STRATEGIES = [FixedWindowRateLimiter, MovingWindowRateLimiter]
ASYNC_STRATEGIES = [AsyncFixedWindowRateLimiter, AsyncMovingWindowRateLimiter]
HOURLY = RateLimitItemPerHour(5)


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    """Each test has a dictionary of its own."""
    context = current_context()
    context._sharing = None
    yield
    context._sharing = None


def storage(uri: str = "eggcluster://", **options: Any) -> Any:
    return storage_from_string(uri, **options)


def test_the_schemes_name_the_storages() -> None:
    assert type(storage()) is integration.ClusterStorage
    assert type(storage("async+eggcluster://")) is integration.AsyncClusterStorage


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_as_many_hits_as_the_limit_says_for_each_key(strategy: Any) -> None:
    limiter = strategy(storage())
    assert [limiter.hit(HOURLY, "a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert limiter.test(HOURLY, "a") is False
    assert limiter.get_window_stats(HOURLY, "a").remaining == 0
    assert limiter.test(HOURLY, "b") is True
    assert limiter.hit(HOURLY, "b", cost=3) is True
    assert limiter.get_window_stats(HOURLY, "b").remaining == 2
    assert limiter.hit(HOURLY, "b", cost=3) is False


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_window_ends_and_clear_ends_it_earlier(strategy: Any) -> None:
    limiter, item = strategy(storage()), RateLimitItemPerSecond(2)
    assert [limiter.hit(item) for _ in range(3)] == [True, True, False]
    wait_until(lambda: limiter.test(item), "the window has ended")
    assert limiter.hit(item) is True
    assert [limiter.hit(HOURLY, "k") for _ in range(6)] == [True] * 5 + [False]
    limiter.clear(HOURLY, "k")
    assert limiter.hit(HOURLY, "k") is True


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_reset_time_is_within_the_window(strategy: Any) -> None:
    limiter = strategy(storage())
    limiter.hit(HOURLY)
    assert time.time() + 3500 < limiter.get_window_stats(HOURLY).reset_time <= time.time() + 3600


@pytest.mark.parametrize("strategy", ASYNC_STRATEGIES)
def test_the_same_in_coroutines(strategy: Any) -> None:
    async def work() -> None:
        kept = storage("async+eggcluster://")
        limiter = strategy(kept)
        assert [await limiter.hit(HOURLY) for _ in range(6)] == [True] * 5 + [False]
        assert (await limiter.get_window_stats(HOURLY)).remaining == 0
        assert await kept.check() is True
        await limiter.clear(HOURLY)
        assert await limiter.test(HOURLY) is True
        await limiter.hit(HOURLY)
        assert await kept.reset() == 1

    asyncio.run(work())


def test_reset_forgets_only_what_is_the_storages() -> None:
    shared = shared_dictionary()
    shared.wait(shared.set("the application's", 1))
    kept = storage()
    kept.incr("a", 100)
    kept.acquire_entry("b", 5, 100)
    assert kept.reset() == 2
    assert dict(shared) == {"the application's": 1}


def test_any_key_is_kept() -> None:
    kept = storage()
    for key in ("x" * 5000, "\ud800", "äöü"):
        assert [kept.incr(key, 100), kept.incr(key, 100)] == [1, 2]


@pytest.mark.parametrize(("setting", "admits"), [("serve", True), ("refuse", False)])
def test_without_room_the_setting_answers(setting: str, admits: bool, caplog: pytest.LogCaptureFixture) -> None:
    shared = shared_dictionary()

    async def fill() -> None:
        for number in range(10_000):
            await shared.set(str(number), 0)

    shared.wait(fill())
    kept = storage(f"eggcluster://?unavailable={setting}")
    assert [strategy(kept).hit(HOURLY) for strategy in STRATEGIES] == [admits, admits]
    assert caplog.text.count("hits cannot be counted now") == 1
    assert f"unavailable={setting}" in caplog.text


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("eggcluster://?unavailable=maybe", "unavailable='maybe'; use serve or refuse"),
        ("eggcluster://?timeout=soon", "timeout='soon' is not a duration"),
        ("eggcluster://?timeout=0", "timeout='0' is not a duration"),
        ("eggcluster://?host=here", "unknown option 'host'; there are unavailable and timeout"),
    ],
)
def test_a_wrong_option_is_refused(uri: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"eggcluster://: {why}"):
        storage(uri)


def test_a_moving_window_has_a_largest_limit() -> None:
    with pytest.raises(ValueError, match="is not in 1 to 8000"):
        storage().acquire_entry("k", 8001, 60)
