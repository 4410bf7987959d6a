"""Foreign text in one line: values, exceptions and long texts from outside never break a log line or a message."""

from typing import Any

import pytest

from eggcluster.wording import MAX_ERROR, MAX_SHORT, MAX_SHOWN, described, duration, near_miss, printable, short, shown


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


class OddError(Exception):
    __str__ = Odd.__repr__


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", '"a"'),
        ("it's\n", '"it\'s\\n"'),
        (5, "5"),
        (("a", 1), '"a", 1'),
        (tuple(range(9)), "0, 1, 2, 3, 4, ..."),
        ((), "()"),
    ],
)
def test_a_value_is_shown_in_one_line(value: Any, text: str) -> None:
    assert shown(value) == text


def test_a_long_value_is_cut() -> None:
    assert len(shown("x" * 1000)) == MAX_SHOWN
    assert len(short("x" * 1000)) <= MAX_SHORT
    assert len(described(ValueError("x" * 1000))) <= MAX_ERROR + len(" [...] ")


@pytest.mark.parametrize(("value", "text"), [("a", "'a'"), ({"a\n": 1}, "{'a\\n': 1}"), (Odd(), "<Odd>")])
def test_any_object_has_a_short_text(value: Any, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("one\ntwo"), "ValueError: one two"),
        (ValueError(), "ValueError"),
        (OddError(), "OddError"),
        (ValueError("\udcff"), "ValueError: \\udcff"),
    ],
)
def test_an_exception_is_described_in_one_line(error: Exception, text: str) -> None:
    assert described(error) == text


def test_a_long_text_loses_its_middle_and_its_surrogates() -> None:
    assert printable("a\udcffb") == "a\\udcffb"
    assert printable("abcdefgh", 4) == "ab\n[...]\ngh"


def test_only_a_near_name_is_suggested() -> None:
    assert near_miss("wokers", ["workers", "port"]) == '; did you mean "workers"?'
    assert near_miss("banana", ["workers", "port"]) == ""
    assert near_miss("port", ["port"]) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-0.1, "0ms"),
        (0, "0ms"),
        (0.000_000_1, "0ms"),
        (0.000_124, "0.12ms"),
        (0.001_22, "1.2ms"),
        (0.022_9, "23ms"),
        (0.999_4, "999ms"),
        (0.999_6, "1.0s"),
        (59.94, "59.9s"),
        (59.96, "1m00s"),
        (187, "3m07s"),
        (3_599.9, "1h00m"),
        (18_720, "5h12m"),
        (86_399, "23h59m"),
        (788_400, "9d03h"),
    ],
)
def test_a_duration_has_the_unit_that_reads_best(seconds: float, text: str) -> None:
    assert duration(seconds) == text
