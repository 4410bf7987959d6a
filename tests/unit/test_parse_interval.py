"""Intervals as people write them."""

import contextlib
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.schedule.declaration import interval_text, parse_interval


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("1.5s", 1.5),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        (" 10 s ", 10),
        (3, 3),
        (0.25, 0.25),
        (timedelta(minutes=1), 60),
    ],
)
def test_intervals(text: Any, seconds: float) -> None:
    assert parse_interval(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "10", "s", "-1s", "0s", "10 sec", "1h30m", 0, -1, True, None, float("nan"), float("inf"), timedelta(0), []],
)
def test_what_is_no_interval_is_told_with_what_would_be_one(text: Any) -> None:
    with pytest.raises(ValueError, match='is not an interval: use "500ms", "10s"'):
        parse_interval(text)


@given(st.text() | st.floats() | st.integers() | st.timedeltas())
def test_anything_is_an_interval_above_0_or_a_value_error(text: Any) -> None:
    with contextlib.suppress(ValueError):
        assert 0 < parse_interval(text) < float("inf")


@pytest.mark.parametrize("text", ["1ms", "200ms", "1.5s", "10s", "90s", "5m", "90m", "2h", "1d", "100d"])
def test_an_interval_is_shown_as_it_was_written(text: str) -> None:
    assert interval_text(parse_interval(text)) == text
