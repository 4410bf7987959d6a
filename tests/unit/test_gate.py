"""Whether a run may begin while others are under way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.schedule.schedule_run import Admission, OverlapGuard


@pytest.mark.parametrize(
    ("overlap", "verdicts"),
    [
        ("skip", [Admission.RUN, Admission.SKIP, Admission.SKIP]),
        ("queue", [Admission.RUN, Admission.WAIT, Admission.SKIP]),
        ("allow", [Admission.RUN, Admission.RUN, Admission.RUN]),
    ],
)
def test_three_that_come_at_once(overlap: str, verdicts: list[Admission]) -> None:
    guard = OverlapGuard(overlap)
    assert [guard.arrive() for _ in range(3)] == verdicts


def test_one_that_waits_begins_when_the_last_one_before_it_has_ended() -> None:
    guard = OverlapGuard("queue")
    guard.adopt()
    guard.adopt()
    assert guard.arrive() is Admission.WAIT
    assert not guard.leave()
    assert guard.leave()
    assert (guard.running, guard.waiting) == (1, 0)
    assert guard.arrive() is Admission.WAIT


@given(st.sampled_from(["skip", "queue"]), st.lists(st.booleans()))
def test_never_two_at_once_and_never_two_that_wait(overlap: str, comings: list[bool]) -> None:
    guard = OverlapGuard(overlap)
    for coming in comings:
        if coming:
            guard.arrive()
        elif guard.running:
            guard.leave()
        assert guard.running <= 1
        assert guard.waiting <= (overlap == "queue")
        assert guard.running or not guard.waiting
