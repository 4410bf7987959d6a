"""The steering plan: which slots are open, held or out, and which slot takes the clients of another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.steering.affinity import home_of
from eggcluster.model.steering.reuseport_program import Instruction, encode
from eggcluster.model.steering.steering_plan import SlotState, SlotView, Steering, SteeringPlan
from tests.unit.bpf_machine import packet_from, run

OPEN, HELD, OUT = SlotState.OPEN, SlotState.HELD, SlotState.OUT
HOLD = 5.0


def views(*open_slots: int, of: int = 4) -> list[SlotView]:
    return [SlotView(slot, slot in open_slots) for slot in range(1, of + 1)]


def states(plan: SteeringPlan) -> list[SlotState]:
    return list(plan.states.values())


def keys_at(slot: int, slots: int = 4, count: int = 50) -> list[int]:
    """Clients that belong to `slot`."""
    return [key for key in range(2000) if home_of(key, range(1, slots + 1)) == slot][:count]


# -- without sticky ------------------------------------------------------------------------------------------


def test_a_slot_that_is_not_open_gets_nothing_and_others_take_over_what_waits_there() -> None:
    steering = Steering(4, sticky=False, hold=HOLD)
    plan = steering.update(views(1, 3, 4), 0)
    assert states(plan) == [OPEN, OUT, OPEN, OPEN]
    assert plan.taken_over == [2]
    chosen = {run(plan.program(), packet_from("10.0.0.1", port)) for port in range(1024, 2024)}
    assert chosen == {0, 2, 3}
    assert {plan.by_weight(count)[0] for count in range(100)} == {1, 3, 4}
    assert sorted(plan.by_weight(7)) == [1, 3, 4]
    assert steering.next_deadline() is None


def test_while_no_slot_is_open_nothing_is_taken_over() -> None:
    steering = Steering(4, sticky=False, hold=HOLD)
    assert steering.plan.taken_over == []
    plan = steering.update(views(), 0)
    assert plan.taken_over == []
    assert plan.by_weight(0) == []
    assert not plan.any_open


def test_a_full_slot_gets_new_connections_only_if_all_are_full() -> None:
    steering = Steering(3, sticky=False, hold=HOLD)
    plan = steering.update([SlotView(1, True), SlotView(2, True, full=True), SlotView(3, False, full=True)], 0)
    assert set(plan.weights) == {1}
    assert plan.by_weight(0) == [1]
    assert states(plan) == [OPEN, OPEN, OUT]
    assert plan.taken_over == [3], "a full worker accepts what waits at its own listener"
    plan = steering.update([SlotView(1, True, full=True), SlotView(2, True, full=True), SlotView(3, False)], 1)
    assert set(plan.weights) == {1, 2}


def test_a_sticky_client_stays_with_a_full_worker() -> None:
    steering = Steering(2, sticky=True, hold=HOLD)
    free = steering.update([SlotView(1, True), SlotView(2, True)], 0)
    assert steering.update([SlotView(1, True, full=True), SlotView(2, True)], 10) == free


def test_the_acceptors_turns_are_spread_as_the_weights() -> None:
    steering = Steering(2, sticky=False, hold=HOLD)
    plan = steering.update(views(1, 2, of=2), 0)
    firsts = [plan.by_weight(count)[0] for count in range(100)]
    assert abs(firsts.count(1) - 50) <= 1


def test_an_update_that_shows_nothing_new_does_not_change_the_plan() -> None:
    steering = Steering(2, sticky=False, hold=HOLD)
    first = steering.update([SlotView(1, True, 10, 100), SlotView(2, True, 10, 100)], 0)
    assert steering.update([SlotView(1, True, 12, 200), SlotView(2, True, 12, 200)], 0.25) == first


def weights_after(rate: int, counts: tuple[int, int]) -> dict[int, int]:
    steering = Steering(2, sticky=False, hold=HOLD)
    for step in range(8):
        accepted = 1000 + step * rate // 4
        steering.update([SlotView(1, True, counts[0], accepted), SlotView(2, True, counts[1], 0)], step / 4)
    return steering.plan.weights


def test_where_connections_stay_the_emptier_slot_gets_more() -> None:
    weights = weights_after(4, (90, 10))
    assert weights[2] > 5 * weights[1]


def test_where_they_come_and_go_the_count_of_one_moment_changes_little() -> None:
    weights = weights_after(8000, (60, 4))
    assert weights[1] <= weights[2] < 1.1 * weights[1]


def test_a_burst_counts_for_a_second_and_no_longer() -> None:
    steering = Steering(2, sticky=False, hold=HOLD)
    before = [SlotView(1, True, 10, 1), SlotView(2, True, 10, 1)]
    after = [SlotView(1, True, 90, 5001), SlotView(2, True, 10, 5001)]
    steering.update(before, 0)
    steering.update(after, 0.2)
    soon = steering.update(after, 0.6).weights
    assert soon[2] < 1.1 * soon[1]
    late = steering.update(after, 2).weights
    assert late[2] > 5 * late[1]


def test_where_workers_do_not_count_a_difference_changes_little() -> None:
    steering = Steering(2, sticky=False, hold=HOLD)
    weights = steering.update([SlotView(1, True, 100), SlotView(2, True, 0)], 0).weights
    assert weights[1] < weights[2] < 1.2 * weights[1]


def test_a_new_worker_that_counts_from_zero_is_not_a_decrease() -> None:
    steering = Steering(1, sticky=False, hold=HOLD)
    steering.update([SlotView(1, True, 10, 5000)], 0)
    assert steering.update([SlotView(1, True, 0, 3)], 0.25).weights == {1: 32}


# -- sticky --------------------------------------------------------------------------------------------------


def test_before_any_slot_is_open_each_client_waits_at_its_own() -> None:
    steering = Steering(4, sticky=True, hold=HOLD)
    assert states(steering.plan) == [HELD] * 4
    assert steering.plan.homes == (1, 2, 3, 4)


def test_clients_of_a_dead_slot_wait_for_it_while_it_is_held() -> None:
    steering = Steering(4, sticky=True, hold=HOLD)
    steering.update(views(1, 2, 3, 4), 0)
    plan = steering.update(views(1, 3, 4), 10)
    assert states(plan) == [OPEN, HELD, OPEN, OPEN]
    assert plan.taken_over == []
    assert {plan.home_slot(key) for key in keys_at(2)} == {None}
    assert steering.next_deadline() == 10 + HOLD


def test_after_the_hold_each_goes_to_one_other_slot_and_comes_back() -> None:
    steering = Steering(4, sticky=True, hold=HOLD)
    steering.update(views(1, 2, 3, 4), 0)
    steering.update(views(1, 3, 4), 10)
    plan = steering.update(views(1, 3, 4), 10 + HOLD)
    assert states(plan) == [OPEN, OUT, OPEN, OPEN]
    assert plan.taken_over == [2]
    assert {plan.home_slot(key) for key in keys_at(2)} == {1, 3, 4}
    assert steering.next_deadline() is None
    for slot in (1, 3, 4):
        assert {plan.home_slot(key) for key in keys_at(slot)} == {slot}
    back = steering.update(views(1, 2, 3, 4), 60)
    assert {back.home_slot(key) for key in keys_at(2)} == {2}
    assert back.taken_over == []


def test_a_slot_that_came_back_in_time_is_held_anew_when_it_closes_again() -> None:
    steering = Steering(2, sticky=True, hold=HOLD)
    steering.update(views(1, 2, of=2), 0)
    steering.update(views(1, of=2), 10)
    steering.update(views(1, 2, of=2), 14)
    assert steering.update(views(1, of=2), 16).states[2] is HELD


def test_while_all_slots_are_out_each_client_waits_at_its_own() -> None:
    steering = Steering(4, sticky=True, hold=HOLD)
    steering.update(views(), 0)
    plan = steering.update(views(), 2 * HOLD)
    assert states(plan) == [OUT] * 4
    assert plan.homes == (1, 2, 3, 4)
    assert plan.taken_over == []
    assert {plan.home_slot(key) for key in range(50)} == {None}


def test_two_slots_out_send_their_clients_to_the_third_in_their_ranking() -> None:
    steering = Steering(3, sticky=True, hold=HOLD)
    steering.update(views(3, of=3), 0)
    plan = steering.update(views(3, of=3), HOLD)
    assert {plan.home_slot(key) for key in range(50)} == {3}


@given(
    st.lists(st.tuples(st.sets(st.integers(1, 6)), st.floats(0, 4)), max_size=20),
    st.lists(st.ip_addresses(v=4), min_size=1, max_size=10),
)
def test_kernel_and_acceptor_agree_on_any_plan(lives: list[tuple[set[int], float]], clients: list[object]) -> None:
    """And no client is sent to a slot that is out while another is not."""
    steering, now = Steering(6, sticky=True, hold=HOLD), 0.0
    for open_slots, passed in lives:
        now += passed
        plan = steering.update(views(*open_slots, of=6), now)
        for client in clients:
            slot = run(plan.program(), packet_from(str(client))) + 1
            assert plan.home_slot(int(client)) == (slot if plan.states[slot] is OPEN else None)  # type: ignore[call-overload]
            if plan.any_open:
                assert plan.states[slot] is not OUT


@pytest.mark.parametrize("sticky", [False, True])
def test_no_plan_has_a_longer_program_than_the_longest(sticky: bool) -> None:
    steering = Steering(4, sticky=sticky, hold=HOLD)
    longest = len(steering.longest().program())
    for open_slots in ((), (1,), (2, 4), (1, 2, 3, 4)):
        assert len(steering.update(views(*open_slots), 0).program()) <= longest


def test_an_instruction_has_the_kernels_layout() -> None:
    assert encode([Instruction(0x15, 0x01020304, 1, 2)]) == b"\x15\x00\x01\x02\x04\x03\x02\x01"
