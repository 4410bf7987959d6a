"""Shares of new connections: even while the load is even, larger for slots with less load; the same in the kernel."""

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.steering.balance import EVEN, LEAST, slot_at, spread_program, turn_of, weigh
from eggcluster.model.steering.reuseport_program import FALL_BACK, MOST_INSTRUCTIONS
from tests.unit.bpf_machine import packet_from, run

COUNTS = st.dictionaries(st.integers(1, 64), st.integers(0, 100_000), min_size=1).map(
    lambda counts: dict(sorted(counts.items()))
)
WEIGHTS = st.dictionaries(st.integers(1, 64), st.integers(LEAST, 1000), min_size=1).map(
    lambda weights: dict(sorted(weights.items()))
)


def linux_ports(count: int, dice: random.Random) -> list[int]:
    """The ports of connections that one Linux client opens in a row."""
    port, ports = dice.randrange(32_768, 61_000, 2), []
    for _ in range(count):
        port += 2 * dice.randint(1, 8)
        ports.append(32_768 + (port - 32_768) % 28_232)
    return ports


def most_over_mean(weights: dict[int, int], count: int, dice: random.Random) -> float:
    program = spread_program(weights)
    spread = Counter(run(program, packet_from("127.0.0.1", port)) for port in linux_ports(count, dice))
    return max(spread.values()) / (count / len(weights))


def test_without_a_slot_the_kernel_decides() -> None:
    assert run(spread_program({}), packet_from("127.0.0.1")) == FALL_BACK


@given(WEIGHTS, st.ip_addresses(), st.integers(0, 65_535), st.integers(0, 10))
def test_the_kernels_program_returns_what_the_function_returns(
    weights: dict[int, int], address: object, port: int, options: int
) -> None:
    packet = packet_from(str(address), port, options=options)
    source = int.from_bytes(getattr(address, "packed")[-4:])  # noqa: B009
    assert run(spread_program(weights), packet) + 1 == slot_at(weights, turn_of(port, source, len(weights)))


@given(WEIGHTS)
def test_each_slot_has_the_arc_of_its_weight(weights: dict[int, int]) -> None:
    arcs = Counter(slot_at(weights, turn) for turn in range(0, 65_536, 16))
    total = sum(weights.values())
    assert all(abs(arcs[slot] / 4096 - weight / total) < 0.001 for slot, weight in weights.items())


@pytest.mark.parametrize(("slots", "count"), [(2, 32), (2, 256), (4, 256)])
def test_what_one_client_opens_in_a_row_is_spread_within_a_quarter_of_even(slots: int, count: int) -> None:
    """19 of 20 times; dice reach 18 of 20 with 32 connections on two slots."""
    dice = random.Random(1)
    weights = dict.fromkeys(range(1, slots + 1), EVEN)
    runs = [most_over_mean(weights, count, dice) for _ in range(300)]
    assert sum(ratio <= 1.25 for ratio in runs) >= 0.97 * len(runs)


def test_clients_with_one_connection_each_are_spread_evenly() -> None:
    dice = random.Random(1)
    program = spread_program(dict.fromkeys((1, 2, 3, 4), EVEN))
    spread = Counter(
        run(program, packet_from(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", dice.randrange(65_536)))
        for i in range(20_000)
    )
    assert all(abs(number / 5000 - 1) < 0.05 for number in spread.values())


@given(COUNTS, st.floats(0, 1e6))
def test_every_open_slot_has_a_weight_and_one_with_fewer_connections_no_smaller_one(
    counts: dict[int, int], arrivals: float
) -> None:
    weights = weigh(counts, arrivals)
    assert list(weights) == list(counts)
    ordered = sorted(counts, key=lambda slot: counts[slot])
    assert all(weights[fewer] >= weights[more] >= LEAST for fewer, more in pairwise(ordered))


@pytest.mark.parametrize("arrivals", [0, 100, 10_000])
def test_while_all_have_equally_many_the_shares_are_even(arrivals: float) -> None:
    assert set(weigh({1: 70, 2: 70, 3: 70}, arrivals).values()) == {EVEN}


def long_lived(counts: dict[int, int], a_second: int) -> dict[int, int]:
    """The counts after ten seconds with new connections that stay, and four looks a second."""
    counts, dice = dict(counts), random.Random(1)
    for _ in range(40):
        weights = weigh(counts, a_second)
        for slot in dice.choices(list(weights), list(weights.values()), k=a_second // 4):
            counts[slot] += 1
    return counts


def test_where_connections_stay_an_empty_slot_catches_up() -> None:
    counts = long_lived({1: 500, 2: 500, 3: 0}, a_second=200)
    assert max(counts.values()) - min(counts.values()) < 150


def short_lived(a_second: int, clients: int, looks: int) -> list[int]:
    """How many of `clients` were at slot 1 of two at each look: each opens its next connection when the one before is
    answered, and both slots answer as quickly."""
    counts, dice, seen = {1: clients // 2, 2: clients - clients // 2}, random.Random(1), []
    for _ in range(looks):
        weights = weigh(counts, a_second)
        share = weights[1] / sum(weights.values())
        for _ in range(a_second // 4 // 2):
            for slot in (1, 2):
                if counts[slot]:
                    counts[slot] -= 1
                    counts[1 if dice.random() < share else 2] += 1
        seen.append(counts[1])
    return seen


def test_where_they_come_and_go_the_load_does_not_swing_from_one_slot_to_the_other() -> None:
    seen = short_lived(a_second=5000, clients=64, looks=100)
    idle = sum(count in (0, 64) for count in seen)
    assert idle <= 5, seen


def test_a_thousand_slots_fit_into_a_program() -> None:
    assert len(spread_program(dict.fromkeys(range(1, 1025), EVEN))) <= MOST_INSTRUCTIONS
