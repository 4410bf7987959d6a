"""Tables that fit a terminal of any width, and hide nothing."""

from hypothesis import given
from hypothesis import strategies as st

from eggcluster.cli.screen import Screen, cell_width
from eggcluster.cli.text_table import Column, Row, table_lines

COLUMNS = (Column("name"), Column("count", right=True), Column("state"))


def test_the_last_columns_go_below_first() -> None:
    rows = [Row(("alpha", "12345", "listening"), ("because",)), Row(("b", "-", ""))]
    assert table_lines(COLUMNS, rows, Screen(40)) == [
        "name   count  state",
        "alpha  12345  listening",
        "    because",
        "b          -",
    ]
    assert table_lines(COLUMNS, rows, Screen(20)) == [
        "name   count",
        "alpha  12345",
        "    state listening",
        "    because",
        "b          -",
    ]


def test_what_identifies_never_shrinks() -> None:
    assert table_lines(COLUMNS, [Row(("a_long_name", "1", "ok"))], Screen(5))[1] == "a_long_name"


def test_without_a_terminal_a_row_is_one_line_with_its_notes() -> None:
    rows = [Row(("a", "1", "ok"), ("one", "two " * 100)), Row(("b", "1", "ok"))]
    lines = table_lines(COLUMNS, rows, Screen())
    assert len(lines) == 3
    assert lines[1] == "a         1  ok     one; " + ("two " * 100).rstrip()


def test_a_wide_character_takes_two_columns() -> None:
    assert cell_width("蛋e\u0301") == 3
    lines = table_lines(COLUMNS, [Row(("蛋蛋", "1", "x")), Row(("abcd", "1", "x"))], Screen(40))
    assert [cell_width(line) for line in lines[1:]] == [14, 14]


def test_styles_do_not_move_a_column() -> None:
    row = Row(("a", "1", "ok"), styles=(("name", "red"), ("count", "green")))
    line = table_lines(COLUMNS, [row], Screen(40, colours=True))[1]
    assert line == "\x1b[31ma\x1b[0m         \x1b[32m1\x1b[0m  ok"


def test_what_cannot_be_printed_has_its_width_too() -> None:
    rows = [Row(("a\x1b[2J", "1", "ok"), ("b\nc",)), Row(("a", "1", "ok"))]
    lines = table_lines(COLUMNS, rows, Screen(40))
    assert lines[1:3] == [r"a\x1b[2J      1  ok", r"    b\nc"]
    assert cell_width(lines[1]) == cell_width(lines[3])


@given(
    width=st.integers(1, 200),
    cells=st.lists(st.tuples(*[st.text("abc", max_size=30)] * 3), min_size=1, max_size=4),
    note=st.text("ab ", max_size=60),
)
def test_no_text_is_lost_at_any_width(width: int, cells: list[tuple[str, str, str]], note: str) -> None:
    shown = "".join("".join(table_lines(COLUMNS, [Row(each, (note,)) for each in cells], Screen(width))).split())
    for row in cells:
        for cell in row:
            assert cell in shown
    assert note.replace(" ", "") in shown
