"""The store decides on writes, a table follows: order, limits, times to live, what is left after the agent's end."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.errors import FrameError, SharedFull
from eggcluster.model.shared import shared_store
from eggcluster.model.shared.shared_copy import CopyMark, problem_of_copy, problem_of_mark
from eggcluster.model.shared.shared_store import (
    Admit,
    CompareAndSet,
    Delete,
    Increment,
    Set,
    Store,
    Write,
    decode,
)
from eggcluster.model.shared.shared_table import EPOCH_BITS, Change, SharedEntry, Table, TableCopy

pack = msgspec.msgpack.encode


def values(table: Table, now: float = 0) -> dict[str, Any]:
    """What readers of the table see."""
    living = {key: table.find(key, now) for key in table.entries}
    return {key: decode(entry.raw) for key, entry in living.items() if entry is not None and entry.raw is not None}


def follow(table: Table, store: Store) -> None:
    """Hand the store's changes over to a copy."""
    for change in store.changes:
        table.apply(*change)
    store.changes.clear()


def test_what_is_set_is_there_and_its_version_grows() -> None:
    store = Store()
    assert [store.carry_out(Set("k", pack(n)), 0) for n in (7, 8)] == [1, 2]
    assert values(store) == {"k": 8}
    assert store.carry_out(Delete("k"), 0) is True
    assert store.carry_out(Delete("k"), 0) is False
    assert (values(store), store.version) == ({}, 3)


def test_versions_of_a_later_agent_are_above_all_of_an_earlier_one() -> None:
    first, second = Store(1), Store(2)
    for _ in range(5):
        first.carry_out(Increment("n", 1), 0)
    second.restore(first.copy())
    entry = first.find("n", 0)
    assert second.find("n", 0) == entry, "what was not changed keeps its version"
    assert second.carry_out(Set("n", pack(0)), 0) == (2 << EPOCH_BITS) + 1 > first.version


def test_compare_and_set_wins_only_with_the_current_version() -> None:
    store = Store()
    version = store.carry_out(CompareAndSet("k", 0, pack("a")), 0)
    assert store.carry_out(CompareAndSet("k", 0, pack("b")), 0) is None, "it exists already"
    assert store.carry_out(CompareAndSet("k", version, pack("c")), 0) == version + 1
    assert store.carry_out(CompareAndSet("k", version, pack("d")), 0) is None, "another write was faster"
    assert values(store) == {"k": "c"}


def test_increment_without_create_leaves_what_is_missing() -> None:
    store = Store()
    assert store.carry_out(Increment("n", 1, create=False), 0) is None
    assert (values(store), store.changes) == ({}, [])
    store.carry_out(Set("n", pack(4)), 0)
    assert store.carry_out(Increment("n", 1, create=False), 0) == 5


def test_a_moving_window_admits_its_limit_and_more_only_when_it_has_moved() -> None:
    store = Store()
    assert [store.carry_out(Admit("k", 3, 10), now) for now in (0, 4, 5, 6)] == [True, True, True, False]
    assert store.carry_out(Admit("k", 3, 10), 9.9) is False
    assert [store.carry_out(Admit("k", 3, 10), 10) for _ in range(2)] == [True, False], "the first one has left it"
    assert [store.carry_out(Admit("k", 3, 10, 2), now) for now in (14, 15)] == [False, True]
    assert store.find("k", 25) is None


def test_what_is_refused_changes_nothing_and_what_is_no_window_cannot_admit() -> None:
    store = Store()
    assert store.carry_out(Admit("k", 1, 10, 2), 0) is False
    assert store.changes == []
    for value in ("text", 7, b"odd"):
        store.carry_out(Set("k", pack(value)), 0)
        with pytest.raises(TypeError, match="only what `admit` has made can admit"):
            store.carry_out(Admit("k", 5, 10), 0)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 3)), max_size=60), st.integers(1, 5))
def test_no_window_ever_holds_more_than_its_limit(steps: list[tuple[float, int]], limit: int) -> None:
    store, now, admitted = Store(), 0.0, list[float]()
    for step, amount in steps:
        now += step
        within = [instant for instant in admitted if instant > now - 5.0]
        fits = len(within) + amount <= limit
        assert store.carry_out(Admit("k", limit, 5.0, amount), now) is fits
        admitted += [now] * amount * fits


def test_increment_counts_from_zero_and_keeps_the_time_that_is_left() -> None:
    store = Store()
    assert [store.carry_out(Increment("n", by, ttl=10), now) for by, now in ((1, 0), (2, 9), (0.5, 9.9))] == [1, 3, 3.5]
    assert store.carry_out(Increment("n", 1, ttl=10), 10) == 1, "the first one's time was over"


@pytest.mark.parametrize("value", ["text", True, None, [1]])
def test_only_numbers_can_be_added_to(value: Any) -> None:
    store = Store()
    store.carry_out(Set("k", pack(value)), 0)
    with pytest.raises(TypeError, match=f"'k' holds a {type(value).__name__}; only a number can be incremented"):
        store.carry_out(Increment("k", 1), 0)
    assert values(store) == {"k": value}


def test_a_number_that_would_not_fit_stays_as_it_is() -> None:
    store = Store()
    store.carry_out(Set("k", pack(2**64 - 1)), 0)
    with pytest.raises(ValueError, match="does not fit 64 bits"):
        store.carry_out(Increment("k", 1), 0)
    assert values(store) == {"k": 2**64 - 1}


def test_what_has_outlived_its_time_is_not_there_and_is_deleted_for_all() -> None:
    store, copy = Store(), Table()
    store.carry_out(Set("short", pack(1), ttl=5), 100)
    store.carry_out(Set("long", pack(2), ttl=50), 100)
    store.carry_out(Set("for good", pack(3)), 100)
    follow(copy, store)
    assert values(store, 105) == values(copy, 105) == {"long": 2, "for good": 3}
    assert store.carry_out(Delete("short"), 105) is False, "it cannot be seen any more"
    store.expire(150)
    follow(copy, store)
    assert set(copy.entries) == {"for good"}
    assert store.expiring == {}


def test_a_new_value_without_a_time_stays_for_good() -> None:
    store = Store()
    store.carry_out(Set("k", pack(1), ttl=5), 0)
    store.carry_out(Set("k", pack(2)), 1)
    store.expire(1000)
    assert values(store, 1000) == {"k": 2}


def test_a_key_or_value_that_is_too_large_is_refused_with_the_limit() -> None:
    store = Store()
    with pytest.raises(SharedFull, match="the key has 1025 bytes; the limit is 1024"):
        store.carry_out(Set("é" * 512 + "k", pack(1)), 0)
    with pytest.raises(SharedFull, match="'k': the value has 65541 bytes; the limit is 65536"):
        store.carry_out(Set("k", pack(bytes(64 * 1024))), 0)
    assert (store.changes, store.version) == ([], 0)


def test_no_more_than_so_many_keys_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_store, "MAX_KEYS", 3)
    store = Store()
    for key in "abc":
        store.carry_out(Set(key, pack(0), ttl=10), 0)
    store.carry_out(Set("c", pack(1)), 0)
    with pytest.raises(SharedFull, match="'d' does not fit: 3 keys are shared already"):
        store.carry_out(Increment("d", 1), 9)
    store.carry_out(Increment("d", 1), 10)  # what has expired makes room
    assert values(store, 10) == {"c": 1, "d": 1}


def test_no_more_than_so_many_bytes_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_store, "MAX_TOTAL_BYTES", 100)
    store = Store()
    store.carry_out(Set("k", pack(bytes(90))), 0)
    with pytest.raises(SharedFull, match="'l' does not fit: 93 of 100 bytes are shared already"):
        store.carry_out(Set("l", pack(bytes(10))), 0)
    store.carry_out(Set("k", pack(bytes(80))), 0)  # it replaces its own bytes
    store.carry_out(Set("l", pack(bytes(10))), 0)
    restored = Store(1)
    restored.restore(store.copy())
    with pytest.raises(SharedFull):
        restored.carry_out(Set("m", pack(100000)), 0)
    store.carry_out(Delete("k"), 0)
    store.carry_out(Set("m", pack(1000)), 0)


def test_bytes_that_are_no_value_are_a_broken_protocol() -> None:
    with pytest.raises(FrameError, match="the shared value cannot be read"):
        Store().carry_out(Set("k", b"\xc1"), 0)


def test_a_copy_ignores_what_it_knows_already() -> None:
    store, copy = Store(), Table()
    store.carry_out(Set("k", pack(1)), 0)
    change = store.changes[0]
    assert copy.apply(*change) is True
    assert copy.apply(*change) is False


def test_a_copy_that_is_replaced_says_what_is_different() -> None:
    store, copy = Store(), Table()
    for key in ("same", "changed", "gone"):
        store.carry_out(Set(key, pack(1)), 0)
    copy.replace(store.copy())
    store.carry_out(Set("changed", pack(2)), 0)
    store.carry_out(Delete("gone"), 0)
    store.carry_out(Set("new", pack(1)), 0)
    changes = copy.replace(store.copy())
    assert {key: entry.raw for key, entry in changes} == {"changed": pack(2), "gone": None, "new": pack(1)}
    assert copy.entries == store.entries


keys = st.sampled_from("abc")
ttls = st.none() | st.floats(0.5, 20)
raws = st.integers(0, 9).map(pack)
writes = st.one_of(
    st.builds(Set, keys, raws, ttls),
    st.builds(CompareAndSet, keys, st.integers(0, 6), raws, ttls),
    st.builds(Increment, keys, st.integers(-2, 2), ttls),
    st.builds(Delete, keys),
)


@given(st.lists(st.tuples(writes, st.floats(0, 10), st.sets(st.integers(0, 2)))))
def test_of_copies_that_stopped_anywhere_the_one_with_the_highest_version_is_the_whole_truth(
    life: list[tuple[Write, float, set[int]]],
) -> None:
    """Three followers get the changes in order, some of them late: the latest of each key, in the order of versions."""
    store, now = Store(1), 0.0
    copies, late = [Table() for _ in range(3)], [dict[str, Any]() for _ in range(3)]
    seen: dict[int, dict[str, Any]] = {0: {}, store.version: {}}
    for write, passed, slow in life:
        now += passed
        store.carry_out(write, now)
        for key, entry in store.changes:
            for held in late:
                held.pop(key, None)
                held[key] = entry
        store.changes.clear()
        seen[store.version] = dict(store.entries)
        for number, copy in enumerate(copies):
            if number not in slow:
                for key, entry in late[number].items():
                    copy.apply(key, entry)
                late[number].clear()
    best = max(copies, key=lambda copy: copy.version)
    assert best.entries == seen[best.version]
    if not all(late):
        assert best.entries == store.entries, "one that kept up has it all"
    successor = Store(2)
    successor.restore(best.copy())
    assert values(successor, now) == values(best, now)
    assert successor.version > best.version


# -- copies of former agents -------------------------------------------------------------------------------

BASE = 1 << EPOCH_BITS  # where the first agent's versions begin


def former(writes: list[Write]) -> TableCopy:
    """What a worker has of the first agent's table after these writes."""
    store = Store(1)
    for write in writes:
        store.carry_out(write, 0)
    return store.copy()


def put(key: str, value: int) -> Set:
    return Set(key, pack(value))


def test_a_late_copy_adds_what_is_newer_and_takes_away_what_was_deleted() -> None:
    writes: list[Write] = [put("same", 1), put("deleted", 1), put("changed", 1)]
    second = Store(2)
    second.restore(former(writes))
    later = former([*writes, Delete("deleted"), put("changed", 2), put("new", 2)])
    assert second.adopt(later, 0) == []
    assert values(second) == {"same": 1, "changed": 2, "new": 2}
    assert second.contains(later.version, later.generation)
    assert not second.contains(later.version + 1, 1)
    before = second.version
    second.changes.clear()
    assert second.carry_out(put("next", 1), 0) == before + 1, "the count goes on"


def test_what_was_written_since_stays_and_the_loss_is_named() -> None:
    second = Store(2)
    second.restore(former([put("a", 1), put("b", 1), put("c", 1)]))
    second.carry_out(put("a", 3), 0)
    second.carry_out(Delete("b"), 0)
    later = former([put("a", 1), put("b", 1), put("c", 1), put("a", 2), put("b", 2), put("c", 2)])
    assert second.adopt(later, 0) == ["a", "b"]
    assert values(second) == {"a": 3, "c": 2}


def test_a_copy_of_the_agent_before_last_is_merged_by_what_each_side_knows() -> None:
    behind, ahead = former([put("k", 1)]), former([put("k", 1), put("only", 1)])
    second = Store(2)
    second.restore(behind)
    second.carry_out(put("k", 2), 0)
    third = Store(3)
    third.restore(second.copy())
    assert not third.contains(ahead.version, ahead.generation)
    assert third.adopt(ahead, 0) == []
    assert values(third) == {"k": 2, "only": 1}


def test_a_late_copy_that_does_not_fit_is_lost_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    second = Store(2)
    second.restore(former([put("a", 1)]))
    later = former([put("a", 1), put("b", 2)])
    monkeypatch.setattr(shared_store, "MAX_KEYS", 1)
    assert second.adopt(later, 0) == ["b"]
    assert values(second) == {"a": 1}


@pytest.mark.parametrize(
    ("mark", "problem"),
    [
        (CopyMark(BASE + 7, 1), ""),
        (CopyMark(2**64 - 1, 1), "its version, 18446744073709551615, is none"),
        (CopyMark(-1, 1), "its version, -1, is none"),
        (CopyMark(7, 0), "generation 0; this one has 2"),
        (CopyMark(7, 2), "generation 2; this one has 2"),
        (CopyMark(7, 3), "generation 3; this one has 2"),
    ],
)
def test_a_mark_that_cannot_be_is_said_to_be_none(mark: CopyMark, problem: str) -> None:
    found = problem_of_mark(mark, 2)
    assert problem in found
    assert bool(found) is bool(problem)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("k", SharedEntry(BASE + 1, pack(1))), ""),
        (("k", SharedEntry(BASE + 9, pack(1))), "is above the copy's or below 1"),
        (("k", SharedEntry(0, pack(1))), "is above the copy's or below 1"),
        (("k", SharedEntry(BASE + 1, b"\xc1")), "cannot be read"),
        (("k", SharedEntry(BASE + 1, None)), "it has no value"),
        (("k", SharedEntry(BASE + 1, pack(1), float("nan"))), "is no instant"),
        (("k" * 2000, SharedEntry(BASE + 1, pack(1))), "the key has 2000 bytes"),
        (("k", SharedEntry(BASE + 1, pack(bytes(70_000)))), "the limit is 65536"),
    ],
)
def test_a_copy_with_an_entry_that_cannot_be_is_not_used(change: Change, problem: str) -> None:
    found = problem_of_copy(TableCopy(BASE + 1, 1, [change], {}), 2)
    assert problem in found
    assert bool(found) is bool(problem)


def test_a_copy_that_is_too_large_or_claims_too_much_is_not_used() -> None:
    many = [(f"k{number}", SharedEntry(BASE + 1, pack(1))) for number in range(shared_store.MAX_KEYS + 1)]
    assert "it has 10001 keys" in problem_of_copy(TableCopy(BASE + 1, 1, many, {}), 2)
    large = [(f"k{number}", SharedEntry(BASE + 1, pack(bytes(60_000)))) for number in range(200)]
    assert "the limit is 8388608" in problem_of_copy(TableCopy(BASE + 1, 1, large, {}), 2)
    assert "above its own version" in problem_of_copy(TableCopy(BASE + 1, 1, [], {1: BASE + 2}), 2)
