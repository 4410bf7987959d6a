"""Foreign text in one line: values, exceptions and long texts from outside never break a log line or a message."""

from typing import Any

import pytest

from eggcluster.wording import MAX_ERROR, MAX_SHORT, MAX_SHOWN, described, near_miss, printable, short, shown


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
