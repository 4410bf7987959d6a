"""The course of new connections: who is open, who is waited for, who is out, and who takes whose clients."""

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


def states(course: SteeringPlan) -> list[SlotState]:
    return list(course.states.values())


def keys_at(slot: int, slots: int = 4, count: int = 50) -> list[int]:
    """Clients that belong to `slot`."""
    return [key for key in range(2000) if home_of(key, range(1, slots + 1)) == slot][:count]


# -- without sticky ------------------------------------------------------------------------------------------


def test_a_slot_that_is_not_open_gets_nothing_and_others_take_over_what_waits_there() -> None:
    steering = Steering(4, sticky=False, hold=HOLD)
    course = steering.look(views(1, 3, 4), 0)
    assert states(course) == [OPEN, OUT, OPEN, OPEN]
    assert course.abandoned == [2]
    chosen = {run(course.program(), packet_from("10.0.0.1", port)) for port in range(1024, 2024)}
    assert chosen == {0, 2, 3}
    assert {course.by_weight(count)[0] for count in range(100)} == {1, 3, 4}
    assert sorted(course.by_weight(7)) == [1, 3, 4]
    assert steering.next_deadline() is None


def test_while_nobody_is_open_nothing_is_taken_over() -> None:
    steering = Steering(4, sticky=False, hold=HOLD)
    assert steering.course.abandoned == []
    course = steering.look(views(), 0)
    assert course.abandoned == []
    assert course.by_weight(0) == []
    assert not course.any_open


def test_the_acceptors_turns_are_spread_as_the_weights() -> None:
    steering = Steering(2, sticky=False, hold=HOLD)
    course = steering.look(views(1, 2, of=2), 0)
    firsts = [course.by_weight(count)[0] for count in range(100)]
    assert abs(firsts.count(1) - 50) <= 1


def test_a_look_that_shows_nothing_new_changes_no_course() -> None:
    steering = Steering(2, sticky=False, hold=HOLD)
    first = steering.look([SlotView(1, True, 10, 100), SlotView(2, True, 10, 100)], 0)
    assert steering.look([SlotView(1, True, 12, 200), SlotView(2, True, 12, 200)], 0.25) == first


def weights_after(rate: int, counts: tuple[int, int]) -> dict[int, int]:
    steering = Steering(2, sticky=False, hold=HOLD)
    for look in range(8):
        accepted = 1000 + look * rate // 4
        steering.look([SlotView(1, True, counts[0], accepted), SlotView(2, True, counts[1], 0)], look / 4)
    return steering.course.weights


def test_where_connections_stay_the_emptier_slot_gets_more() -> None:
    weights = weights_after(4, (90, 10))
    assert weights[2] > 5 * weights[1]


def test_where_they_come_and_go_a_moments_count_changes_little() -> None:
    weights = weights_after(8000, (60, 4))
    assert weights[1] <= weights[2] < 1.1 * weights[1]


def test_a_rush_is_remembered_for_a_moment_and_then_forgotten() -> None:
    steering = Steering(2, sticky=False, hold=HOLD)
    before = [SlotView(1, True, 10, 1), SlotView(2, True, 10, 1)]
    after = [SlotView(1, True, 90, 5001), SlotView(2, True, 10, 5001)]
    steering.look(before, 0)
    steering.look(after, 0.2)
    soon = steering.look(after, 0.6).weights
    assert soon[2] < 1.1 * soon[1]
    late = steering.look(after, 2).weights
    assert late[2] > 5 * late[1]


def test_where_workers_do_not_count_a_difference_changes_little() -> None:
    steering = Steering(2, sticky=False, hold=HOLD)
    weights = steering.look([SlotView(1, True, 100), SlotView(2, True, 0)], 0).weights
    assert weights[1] < weights[2] < 1.2 * weights[1]


def test_a_new_incarnation_that_counts_from_zero_is_no_fall() -> None:
    steering = Steering(1, sticky=False, hold=HOLD)
    steering.look([SlotView(1, True, 10, 5000)], 0)
    assert steering.look([SlotView(1, True, 0, 3)], 0.25).weights == {1: 32}


# -- sticky --------------------------------------------------------------------------------------------------


def test_before_anybody_is_there_each_client_waits_where_it_belongs() -> None:
    steering = Steering(4, sticky=True, hold=HOLD)
    assert states(steering.course) == [HELD] * 4
    assert steering.course.homes == (1, 2, 3, 4)


def test_clients_of_a_dead_slot_wait_for_it_while_it_is_held() -> None:
    steering = Steering(4, sticky=True, hold=HOLD)
    steering.look(views(1, 2, 3, 4), 0)
    course = steering.look(views(1, 3, 4), 10)
    assert states(course) == [OPEN, HELD, OPEN, OPEN]
    assert course.abandoned == []
    assert {course.home(key) for key in keys_at(2)} == {None}
    assert steering.next_deadline() == 10 + HOLD


def test_after_the_hold_each_goes_to_one_other_slot_and_comes_back() -> None:
    steering = Steering(4, sticky=True, hold=HOLD)
    steering.look(views(1, 2, 3, 4), 0)
    steering.look(views(1, 3, 4), 10)
    course = steering.look(views(1, 3, 4), 10 + HOLD)
    assert states(course) == [OPEN, OUT, OPEN, OPEN]
    assert course.abandoned == [2]
    assert {course.home(key) for key in keys_at(2)} == {1, 3, 4}
    assert steering.next_deadline() is None
    for slot in (1, 3, 4):
        assert {course.home(key) for key in keys_at(slot)} == {slot}
    back = steering.look(views(1, 2, 3, 4), 60)
    assert {back.home(key) for key in keys_at(2)} == {2}
    assert back.abandoned == []


def test_a_slot_that_was_back_in_time_is_held_anew_when_it_closes_again() -> None:
    steering = Steering(2, sticky=True, hold=HOLD)
    steering.look(views(1, 2, of=2), 0)
    steering.look(views(1, of=2), 10)
    steering.look(views(1, 2, of=2), 14)
    assert steering.look(views(1, of=2), 16).states[2] is HELD


def test_where_all_are_out_everybody_waits_at_home() -> None:
    steering = Steering(4, sticky=True, hold=HOLD)
    steering.look(views(), 0)
    course = steering.look(views(), 2 * HOLD)
    assert states(course) == [OUT] * 4
    assert course.homes == (1, 2, 3, 4)
    assert course.abandoned == []
    assert {course.home(key) for key in range(50)} == {None}


def test_two_slots_out_send_their_clients_to_the_third_in_their_ranking() -> None:
    steering = Steering(3, sticky=True, hold=HOLD)
    steering.look(views(3, of=3), 0)
    course = steering.look(views(3, of=3), HOLD)
    assert {course.home(key) for key in range(50)} == {3}


@given(
    st.lists(st.tuples(st.sets(st.integers(1, 6)), st.floats(0, 4)), max_size=20),
    st.lists(st.ip_addresses(v=4), min_size=1, max_size=10),
)
def test_kernel_and_acceptor_agree_on_any_course(lives: list[tuple[set[int], float]], clients: list[object]) -> None:
    """And nobody is sent to a slot that is out while another is not."""
    steering, now = Steering(6, sticky=True, hold=HOLD), 0.0
    for open_slots, passed in lives:
        now += passed
        course = steering.look(views(*open_slots, of=6), now)
        for client in clients:
            slot = run(course.program(), packet_from(str(client))) + 1
            assert course.home(int(client)) == (slot if course.states[slot] is OPEN else None)  # type: ignore[call-overload]
            if course.any_open:
                assert course.states[slot] is not OUT


@pytest.mark.parametrize("sticky", [False, True])
def test_no_course_has_a_longer_program_than_the_widest(sticky: bool) -> None:
    steering = Steering(4, sticky=sticky, hold=HOLD)
    longest = len(steering.widest().program())
    for open_slots in ((), (1,), (2, 4), (1, 2, 3, 4)):
        assert len(steering.look(views(*open_slots), 0).program()) <= longest


def test_an_instruction_has_the_kernels_layout() -> None:
    assert encode([Instruction(0x15, 0x01020304, 1, 2)]) == b"\x15\x00\x01\x02\x04\x03\x02\x01"
