"""The key table: each worker writes its part, all read all of them; bounded, the oldest out."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eggcluster.ipc import key_table
from eggcluster.ipc.key_table import BUCKET_ENTRIES, KeyTable, OwnKeys
from eggcluster.model.steering.key_home import NO_PART, Part


@pytest.fixture
def table() -> Iterator[KeyTable]:
    made = KeyTable.create(2)
    yield made
    made.close()


def own(table: KeyTable, incarnation: int) -> OwnKeys:
    part = table.give(incarnation)
    assert part != NO_PART
    return OwnKeys(table, part)


def find(table: KeyTable, key: bytes) -> Part:
    return table.find(table.digest(key))


def test_a_key_is_found_by_another_mapping_at_once(table: KeyTable) -> None:
    other = KeyTable(os.dup(table.fd), 2)
    keys = own(table, 7)
    assert find(other, b"a") == NO_PART
    keys.learn(b"a")
    assert find(other, b"a") == keys.part
    assert other.keys_of(keys.part) == 1
    keys.forget(b"a")
    assert find(other, b"a") == NO_PART
    other.close()


def test_the_worker_that_has_learned_a_key_last_has_it(table: KeyTable) -> None:
    one, two = own(table, 1), own(table, 2)
    one.learn(b"a")
    two.learn(b"a")
    assert find(table, b"a") == two.part
    one.used(table.digest(b"a"))
    assert find(table, b"a") == two.part
    two.forget(b"a")
    assert find(table, b"a") == one.part


def test_the_keys_of_a_worker_that_has_left_are_not_found_and_its_part_is_free_once_it_is_dead(table: KeyTable) -> None:
    keys = own(table, 1)
    keys.learn(b"a")
    table.leave(keys.part)
    assert find(table, b"a") == NO_PART
    assert keys.part.number not in {own(table, 10 + each).part.number for each in range(table.parts - 1)}
    assert table.give(98) == NO_PART
    table.vacate(keys.part)
    next_one = own(table, 99)
    assert next_one.part == Part(keys.part.number, 99)
    assert find(table, b"a") == NO_PART
    table.leave(keys.part)  # a late word of the dead one
    assert table.is_live(next_one.part)


def test_the_key_that_was_not_used_for_the_longest_time_is_forgotten(
    table: KeyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_table, "MOST_KEYS", 3)
    keys = own(table, 1)
    for key in (b"a", b"b", b"c"):
        keys.learn(key)
    keys.used(table.digest(b"a"))
    keys.learn(b"d")
    assert [key for key in (b"a", b"b", b"c", b"d") if find(table, key) != NO_PART] == [b"a", b"c", b"d"]
    assert len(keys) == table.keys_of(keys.part) == 3


def test_a_full_bucket_forgets_its_oldest_key(table: KeyTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_table, "BUCKETS", 1)
    keys = own(table, 1)
    for number in range(BUCKET_ENTRIES + 2):
        keys.learn(b"%d" % number)
    assert [n for n in range(BUCKET_ENTRIES + 2) if find(table, b"%d" % n) == NO_PART] == [0, 1]


def test_handovers_are_counted_by_the_worker_and_read_by_the_master_until_the_part_is_given_anew(
    table: KeyTable,
) -> None:
    other, keys = KeyTable(os.dup(table.fd), 2), own(table, 1)
    other.count_handover(keys.part)
    other.count_handover(NO_PART)
    other.leave(keys.part)
    assert table.handovers_of(keys.part) == 1
    assert table.handovers_of(NO_PART) == 0
    table.vacate(keys.part)
    assert table.handovers_of(own(table, 2).part) == 0
    other.close()
    assert other.handovers_of(keys.part) == 0


def test_a_part_that_is_free_again_and_one_above_it_are_both_looked_at(table: KeyTable) -> None:
    one, two, three = (own(table, number) for number in (1, 2, 3))
    two.learn(b"a")
    table.vacate(three.part)
    assert find(table, b"a") == two.part
    table.vacate(one.part)
    again = own(table, 4)
    assert again.part.number == 1
    assert find(table, b"a") == two.part
    again.learn(b"a")
    assert find(table, b"a") == again.part


def test_homes_are_read_as_they_were_written(table: KeyTable) -> None:
    keys = own(table, 5)
    assert table.homes() == {}
    table.write_homes({1: keys.part, 2: NO_PART})
    assert table.homes() == {1: keys.part, 2: NO_PART}
    table.write_homes({2: keys.part})
    assert table.homes() == {2: keys.part}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["learn", "forget"]), st.integers(0, 1), st.integers(0, 5)), max_size=40))
def test_it_says_what_a_simple_model_says(steps: list[tuple[str, int, int]]) -> None:
    table = KeyTable.create(2)
    owners = [own(table, 1), own(table, 2)]
    learned: dict[int, list[int]] = {}
    for act, worker, key in steps:
        stack = [each for each in learned.get(key, []) if each != worker]
        learned[key] = [*stack, worker] if act == "learn" else stack
        getattr(owners[worker], act)(b"%d" % key)
        for each, workers in learned.items():
            expected = owners[workers[-1]].part if workers else NO_PART
            assert find(table, b"%d" % each) == expected
    table.close()
