"""Key homes: a learned key belongs to its worker, any other one to a slot by rendezvous hashing."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.steering.key_home import NO_PART, Destination, Part, destination, slot_of

PARTS = {slot: Part(slot, 10 + slot) for slot in (1, 2, 3, 4)}
DIGESTS = st.binary(min_size=16, max_size=16)


def nowhere(digest: bytes) -> Part:
    return NO_PART


@given(DIGESTS, st.integers(1, 4))
def test_all_workers_agree_and_exactly_one_keeps_the_request(digest: bytes, other: int) -> None:
    found = {slot: destination([digest], nowhere, lambda: PARTS, part) for slot, part in PARTS.items()}
    assert [slot for slot, each in found.items() if each is None] == [slot_of(digest, [1, 2, 3, 4])]
    assert len({each for each in found.values() if each is not None}) == 1


@given(DIGESTS, DIGESTS)
def test_a_learned_key_wins_over_one_of_higher_rank_that_nobody_has_learned(first: bytes, second: bytes) -> None:
    learned = Part(9, 99)  # an old worker, which no slot names any more
    find = {first: NO_PART, second: learned}.get
    if first != second:
        assert destination([first, second], lambda each: find(each, NO_PART), lambda: PARTS, PARTS[1]) == Destination(
            learned, digest=second
        )
    assert destination([second], lambda each: learned, lambda: PARTS, learned) is None


def test_without_a_key_or_an_open_slot_a_worker_keeps_the_request() -> None:
    assert destination([], nowhere, lambda: PARTS, PARTS[1]) is None
    assert destination([bytes(16)], nowhere, dict, PARTS[1]) is None
    assert destination([bytes(16)], nowhere, lambda: {1: NO_PART, 2: NO_PART}, PARTS[1]) is None


@given(DIGESTS)
def test_a_slot_that_is_held_keeps_its_keys(digest: bytes) -> None:
    slot = slot_of(digest, [1, 2, 3, 4])
    homes = {**PARTS, slot: NO_PART}
    asked = PARTS[1 if slot != 1 else 2]
    assert destination([digest], nowhere, lambda: homes, asked) == Destination(slot=slot)


@given(DIGESTS)
def test_when_a_slot_is_out_only_its_own_keys_move(digest: bytes) -> None:
    before, after = slot_of(digest, [1, 2, 3, 4]), slot_of(digest, [1, 2, 4])
    assert after == before or before == 3


def test_keys_are_spread_evenly() -> None:
    counts = Counter(slot_of(number.to_bytes(4) * 4, [1, 2, 3, 4]) for number in range(4000))
    assert all(abs(count - 1000) < 150 for count in counts.values())


@given(
    st.integers(0, 0xFFFF), st.integers(0, 2**64 - 1), st.integers(0, 1024), st.integers(0, 255), DIGESTS, st.binary()
)
def test_a_destination_travels(number: int, incarnation: int, slot: int, hops: int, digest: bytes, rest: bytes) -> None:
    sent = Destination(Part(number, incarnation), slot, hops, digest)
    assert Destination.unpack(sent.pack() + rest) == (sent, rest)
