"""Whether a run may begin while others are under way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.schedule.schedule_run import Admission, OverlapGuard


@pytest.mark.parametrize(
    ("overlap", "admissions"),
    [
        ("skip", [Admission.RUN, Admission.SKIP, Admission.SKIP]),
        ("queue", [Admission.RUN, Admission.WAIT, Admission.SKIP]),
        ("allow", [Admission.RUN, Admission.RUN, Admission.RUN]),
    ],
)
def test_three_runs_at_once(overlap: str, admissions: list[Admission]) -> None:
    guard = OverlapGuard(overlap)
    assert [guard.arrive() for _ in range(3)] == admissions


def test_a_waiting_run_begins_when_the_last_run_before_it_has_ended() -> None:
    guard = OverlapGuard("queue")
    guard.adopt()
    guard.adopt()
    assert guard.arrive() is Admission.WAIT
    assert not guard.leave()
    assert guard.leave()
    assert (guard.running, guard.waiting) == (1, 0)
    assert guard.arrive() is Admission.WAIT


@given(st.sampled_from(["skip", "queue"]), st.lists(st.booleans()))
def test_at_most_one_run_is_under_way_and_one_waits(overlap: str, comings: list[bool]) -> None:
    guard = OverlapGuard(overlap)
    for coming in comings:
        if coming:
            guard.arrive()
        elif guard.running:
            guard.leave()
        assert guard.running <= 1
        assert guard.waiting <= (overlap == "queue")
        assert guard.running or not guard.waiting
