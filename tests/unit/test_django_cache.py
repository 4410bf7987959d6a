"""Django's cache contract, as cases: the backend on the dictionary of a process without a cluster."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from eggcluster.integrations.culling import pace_of
from eggcluster.integrations.django import Cache
from eggcluster.worker.context.current import current_context, shared_dictionary
from eggcluster.worker.context.worker_context import declared_outside


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    """Each test has a dictionary of its own."""
    context = current_context()
    context._sharing = None
    pace_of.cache_clear()
    yield
    context._sharing = None
    pace_of.cache_clear()


def make(location: str = "", **params: Any) -> Any:
    return Cache(location, params)


def test_what_is_set_is_found_and_what_is_not_is_the_default() -> None:
    cache = make()
    cache.set("k", {"a": [1, (2, 3)]})
    assert cache.get("k") == {"a": [1, (2, 3)]}
    assert cache.get("none") is None
    assert cache.get("none", "else") == "else"
    assert "k" in cache
    assert not cache.has_key("none")


@pytest.mark.parametrize("value", [None, True, False, 0, -7, 2.5, 2**80, "text", b"bytes", {1, 2}, 3 + 4j, int])
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    cache = make()
    cache.set("k", value)
    assert cache.get("k", "missing") == value
    assert type(cache.get("k")) is type(value)


def test_a_value_that_was_read_may_be_changed() -> None:
    cache = make()
    cache.set("k", [1])
    cache.get("k").append(2)
    assert cache.get("k") == [1]


def test_add_leaves_what_is_there() -> None:
    cache = make()
    assert cache.add("k", "first") is True
    assert cache.add("k", "second") is False
    assert cache.get("k") == "first"


@pytest.mark.parametrize("timeout", [0, -1])
def test_without_time_to_live_nothing_is_kept(timeout: int) -> None:
    cache = make()
    cache.set("k", 1)
    cache.set("k", 2, timeout)
    assert cache.get("k") is None
    assert cache.add("k", 3, timeout) is True
    assert cache.get("k") is None
    cache.set("k", 1)
    assert cache.add("k", 3, timeout) is False
    assert cache.touch("k", timeout) is True
    assert cache.get("k") is None


def test_timeouts_are_the_given_one_the_default_or_none() -> None:
    cache = make(TIMEOUT=100)
    cache.set("given", 1, 50)
    cache.set("default", 1)
    cache.set("for good", 1, None)
    shared = shared_dictionary()
    left = [shared.seconds_left(f"django::{cache.make_key(key)}") for key in ("given", "default", "for good")]
    assert left[0] is not None and left[1] is not None  # noqa: PT018
    assert 0 < left[0] <= 50 < left[1] <= 100
    assert left[2] is None


def test_touch_gives_a_new_time_to_live_and_keeps_the_value() -> None:
    cache = make()
    cache.set("k", "v", 10)
    assert cache.touch("k", 1000) is True
    left = shared_dictionary().seconds_left(f"django::{cache.make_key('k')}")
    assert left is not None
    assert left > 900
    assert cache.get("k") == "v"
    assert cache.touch("none") is False


def test_incr_and_decr_count_and_keep_the_time_to_live() -> None:
    cache = make()
    cache.set("n", 40, 1000)
    assert cache.incr("n") == 41
    assert cache.incr("n", 10) == 51
    assert cache.decr("n") == 50
    assert cache.decr("n", -5) == 55
    assert shared_dictionary().seconds_left(f"django::{cache.make_key('n')}") is not None


def test_what_is_missing_or_no_number_is_not_counted() -> None:
    cache = make()
    for count in (cache.incr, cache.decr):
        with pytest.raises(ValueError, match="Key 'none' not found"):
            count("none")
    assert cache.get("none") is None
    cache.set("text", "1")
    with pytest.raises(TypeError, match="only a number"):
        cache.incr("text")


def test_delete_says_whether_there_was_one() -> None:
    cache = make()
    cache.set("k", 1)
    assert cache.delete("k") is True
    assert cache.delete("k") is False


def test_many_at_once() -> None:
    cache = make()
    assert cache.set_many({f"k{n}": n for n in range(600)}) == []
    assert cache.get_many(["k1", "k599", "none"]) == {"k1": 1, "k599": 599}
    cache.delete_many(["k1", "none"])
    assert cache.get_many(["k1", "k2"]) == {"k2": 2}


def test_versions_and_prefixes_and_locations_are_apart() -> None:
    one, other, prefixed = make(VERSION=1), make("other"), make(KEY_PREFIX="site")
    one.set("k", "first")
    one.set("k", "second", version=2)
    assert [one.get("k"), one.get("k", version=2)] == ["first", "second"]
    assert [other.get("k"), prefixed.get("k")] == [None, None]
    assert one.incr_version("k", 5) == 6
    assert [one.get("k"), one.get("k", version=6)] == [None, "first"]
    other.set("k", 1)
    one.clear()
    assert one.get("k", version=2) is None
    assert other.get("k") == 1


def test_get_or_set_calls_only_for_what_is_missing() -> None:
    cache = make()
    assert cache.get_or_set("k", lambda: 1) == 1
    assert cache.get_or_set("k", lambda: 2) == 1


def test_the_oldest_entries_make_room() -> None:
    cache = make(OPTIONS={"MAX_ENTRIES": 30, "CULL_FREQUENCY": 3})
    for number in range(31):
        cache.set(f"k{number}", number)
    kept = [number for number in range(31) if cache.has_key(f"k{number}")]
    assert kept == list(range(10, 31))


def test_all_objects_of_one_cache_count_together() -> None:
    """Django makes an object for each thread, and in an event loop for each request."""
    bounds = {"MAX_ENTRIES": 160}
    counted = []

    class Counting(Cache):
        def __init__(self) -> None:
            super().__init__("", {"OPTIONS": bounds})
            names = self._culling.names
            self._culling.names = lambda: counted.append(1) or names()  # type: ignore[method-assign,func-returns-value]

    for number in range(33):
        Counting().set(f"k{number}", number)
    assert len(counted) == 3, "once in 160 / 16 new keys, and the first time"


def test_an_object_for_each_request_leaves_nothing_behind_outside_of_a_cluster() -> None:
    make()
    before = len(declared_outside)
    for _ in range(5):
        make()
    assert len(declared_outside) == before


def test_a_location_that_begins_like_another_is_apart() -> None:
    one, other = make("a"), make("a:b")
    other.set("k", 1)
    one.clear()
    assert other.get("k") == 1


def test_a_full_dictionary_makes_room_in_the_cache_and_not_in_the_rest() -> None:
    cache, shared = make(), shared_dictionary()
    shared.wait(shared.set("the application's", 1))
    for number in range(140):
        cache.set(f"k{number}", bytes(63 * 1024))  # more than 8 MiB in all
    assert cache.has_key("k139")
    assert not cache.has_key("k0")
    assert shared["the application's"] == 1


def test_a_value_that_is_too_large_is_not_kept_and_the_old_one_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    cache = make()
    cache.set("other", 1)
    cache.set("k", "old")
    cache.set("k", bytes(70_000))
    assert cache.get("k") is None
    assert cache.set_many({"a": 1, "b": bytes(70_000)}) == ["b"]
    assert cache.add("c", bytes(70_000)) is False
    assert cache.get_many(["a", "b", "c", "other"]) == {"a": 1, "other": 1}, "nothing is culled for it"
    assert "the limit is 65536" in caplog.text


def test_the_same_in_coroutines() -> None:
    async def work() -> None:
        cache = make()
        await cache.aset("k", [1])
        assert await cache.aget("k") == [1]
        assert await cache.aadd("k", 2) is False
        assert await cache.aget_or_set("n", 40) == 40
        assert await cache.aincr("n") == 41
        assert await cache.adecr("n", 2) == 39
        assert await cache.atouch("k", 5) is True
        assert await cache.ahas_key("k") is True
        assert await cache.aset_many({"a": 1, "b": 2}) == []
        assert await cache.aget_many(["a", "b", "c"]) == {"a": 1, "b": 2}
        await cache.adelete_many(["a"])
        assert await cache.adelete("b") is True
        assert await cache.aincr_version("k") == 2
        with pytest.raises(ValueError, match="not found"):
            await cache.aincr("none")
        await cache.aclear()
        assert await cache.aget("n") is None

    asyncio.run(work())
