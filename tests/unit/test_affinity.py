"""A client's own slot: the same for function and kernel program, evenly spread, moved as little as can be."""

import ipaddress
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.steering.affinity import affinity_program, client_key, home_of, mix
from eggcluster.model.steering.reuseport_program import MOST_INSTRUCTIONS
from tests.unit.bpf_machine import packet_from, run

ADDRESSES = st.ip_addresses().filter(lambda address: address not in ipaddress.ip_network("::/64"))
SLOTS = st.sets(st.integers(1, 40), min_size=1).map(sorted)


def key_of(address: object) -> int:
    return client_key(ipaddress.ip_address(str(address)).packed)


def homes(addresses: Iterable[str], slots: Iterable[int]) -> dict[str, int]:
    slots = list(slots)
    return {address: home_of(key_of(address), slots) for address in addresses}


# 2,000 clients each, as they come: one after the other, every third, one a network.
CLIENTS = {
    "loopback": [f"127.0.{i // 250}.{1 + i % 250}" for i in range(2000)],
    "one after the other": [str(ipaddress.ip_address("10.20.0.0") + i) for i in range(2000)],
    "every third": [str(ipaddress.ip_address("192.168.0.0") + 3 * i) for i in range(2000)],
    "one a network": [str(ipaddress.ip_address("10.0.0.1") + 256 * i) for i in range(2000)],
    "networks of one provider": [str(ipaddress.ip_address("2001:db8::1") + (i << 64)) for i in range(2000)],
    "unique local networks": [str(ipaddress.ip_address("fd00::1") + (i << 80)) for i in range(2000)],
    "providers": [str(ipaddress.ip_address("2000::1") + (i << 96)) for i in range(2000)],
}


@given(ADDRESSES, SLOTS)
def test_the_kernels_program_returns_what_the_function_returns(address: object, slots: list[int]) -> None:
    packet = packet_from(str(address))
    assert run(affinity_program(slots), packet) + 1 == home_of(key_of(address), slots)


@given(st.ip_addresses(v=4), st.integers(0, 10), st.integers(0, 65_535))
def test_neither_ip_options_nor_the_port_matter(address: object, options: int, port: int) -> None:
    program = affinity_program([1, 2, 3, 4])
    assert run(program, packet_from(str(address), port, options=options)) == run(program, packet_from(str(address)))


@pytest.mark.parametrize("clients", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_2000_clients_are_spread_within_a_tenth_of_even(clients: list[str], count: int) -> None:
    spread = Counter(homes(clients, range(1, count + 1)).values())
    assert len(spread) == count
    assert all(abs(number / (2000 / count) - 1) < 0.1 for number in spread.values()), spread


@pytest.mark.parametrize("clients", CLIENTS.values(), ids=CLIENTS)
def test_without_a_slot_only_its_clients_move_and_evenly_over_the_others(clients: list[str]) -> None:
    before, after = homes(clients, [1, 2, 3, 4]), homes(clients, [1, 3, 4])
    moved = {client for client in clients if before[client] != after[client]}
    assert moved == {client for client in clients if before[client] == 2}
    spread = Counter(after[client] for client in moved)
    assert all(abs(number / (len(moved) / 3) - 1) < 0.25 for number in spread.values()), spread


@given(st.lists(ADDRESSES, min_size=1, max_size=50), st.integers(1, 39))
def test_one_slot_more_takes_clients_and_moves_none_between_the_others(addresses: list[object], count: int) -> None:
    clients = list(map(str, addresses))
    before, after = homes(clients, range(1, count + 1)), homes(clients, range(1, count + 2))
    assert all(after[client] in (before[client], count + 1) for client in clients)


def test_one_slot_more_moves_no_more_clients_than_it_gets() -> None:
    clients = CLIENTS["loopback"]
    before, after = homes(clients, range(1, 5)), homes(clients, range(1, 6))
    moved = sum(before[client] != after[client] for client in clients)
    assert abs(moved / (2000 / 5) - 1) < 0.15


def test_an_ipv4_address_is_the_same_client_at_a_socket_of_both_families() -> None:
    assert key_of("::ffff:192.0.2.7") == key_of("192.0.2.7")


def test_the_64_bits_of_a_network_are_one_client_and_those_before_it_another() -> None:
    assert key_of("2001:db8:1:2::7") == key_of("2001:db8:1:2:aaaa:bbbb:cccc:dddd")
    assert key_of("2001:db8:1:3::7") != key_of("2001:db8:1:2::7")


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_no_two_numbers_are_mixed_into_the_same(one: int, other: int) -> None:
    assert (mix(one) == mix(other)) == (one == other)


def test_the_kernels_limit_is_226_slots() -> None:
    assert len(affinity_program(range(1, 227))) <= MOST_INSTRUCTIONS < len(affinity_program(range(1, 228)))
