"""The ticks of a series: on their grid, none twice, none before its time, whatever the clock does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.schedule.timetable import CLOCK_RESET_AFTER, MISSED_AFTER, Grid, Timetable

INTERVALS = st.floats(0.01, 1e5)
ANCHORS = st.floats(0, 1e6)


@given(anchor=ANCHORS, interval=INTERVALS, elapsed=st.floats(0, 1e6))
def test_the_next_instant_of_a_grid_is_later_and_at_most_one_interval_away(
    anchor: float, interval: float, elapsed: float
) -> None:
    now = anchor + elapsed
    following = Grid(anchor, interval).after(now)
    assert now < following <= now + interval + 1e-6


@given(anchor=ANCHORS, interval=INTERVALS, steps=st.integers(1, 10_000))
def test_an_instant_of_a_grid_is_after_the_one_before_it_however_one_gets_there(
    anchor: float, interval: float, steps: int
) -> None:
    grid = Grid(anchor, interval)
    instant = anchor + steps * interval
    assert grid.after(instant) == pytest.approx(anchor + (steps + 1) * interval)
    assert grid.latest(grid.after(anchor), instant) == pytest.approx(instant)


@given(
    interval=st.floats(0.5, 100),
    waits=st.lists(st.floats(-CLOCK_RESET_AFTER * 2, 1000) | st.floats(0, 2), max_size=30),
    allowed=st.floats(0, 100),
)
def test_no_tick_is_given_out_twice_or_early_or_later_than_allowed(
    interval: float, waits: list[float], allowed: float
) -> None:
    now = 1e6
    table = Timetable(Grid(now, interval), now)
    given_out: list[float] = []
    for wait in waits:
        now += wait
        if table.begins_anew(now):
            given_out.clear()  # the instants of a clock that was wrong
        tick = table.take(now, allowed)
        if tick is not None:
            assert tick <= now
            assert now - tick <= allowed
            assert not given_out or tick > given_out[-1]
            given_out.append(tick)
        assert table.planned is not None
        assert table.planned > table.last


def test_of_what_came_due_meanwhile_the_latest_is_given_out_if_it_is_not_too_old() -> None:
    table = Timetable(Grid(0, 10), 0)
    assert table.take(9, MISSED_AFTER) is None
    assert table.take(10, MISSED_AFTER) == 10
    assert table.take(10, MISSED_AFTER) is None
    assert table.take(47, MISSED_AFTER) == 40
    assert table.planned == 50
    assert table.take(59, 5) is None  # the one of 50 is left out
    assert table.planned == 60


def test_a_clock_that_is_set_back_a_little_is_waited_for_and_further_begins_a_new_series() -> None:
    table = Timetable(Grid(0, 10), 20_000)
    assert not table.begins_anew(20_000 - CLOCK_RESET_AFTER)
    assert table.planned == 20_010
    assert table.begins_anew(20_000 - CLOCK_RESET_AFTER - 1)
    assert table.planned == 9_200


class Never:
    """A series without instants."""

    def after(self, instant: float) -> None:
        return None

    def latest(self, first: float, now: float) -> float:
        raise AssertionError("BUG: there is none")


def test_a_series_may_have_no_instant_at_all() -> None:
    table = Timetable(Never(), 0)
    assert table.planned is None
    assert table.take(1e9, MISSED_AFTER) is None
