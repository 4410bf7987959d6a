"""A table that fits a terminal of any width and hides nothing. Pure; runs in the user's shell.

No cell shrinks. Columns that do not fit, the last ones first, go to a line below each row, and so do notes, such as
the cause of a death. Without a terminal each row is one line, with its notes at the end.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from eggcluster.cli.screen import Screen, cell_width
from eggcluster.wording import one_line

GAP = "  "
INDENT = "    "
LEAST_WIDTH = 20  # of a wrapped note, on however small a terminal


@dataclass(frozen=True)
class Column:
    """A column; the more important ones come first. `right`: its cells end at the same place."""

    heading: str
    right: bool = False


@dataclass(frozen=True)
class Row:
    """The cells of one thing, and what there is to say about it besides. `styles`: heading to the cell's style."""

    cells: tuple[str, ...]
    notes: tuple[str, ...] = ()
    styles: tuple[tuple[str, str], ...] = ()


def table_lines(columns: Sequence[Column], rows: Sequence[Row], screen: Screen) -> list[str]:
    """Return the lines of the table: headings, then for each row its cells and what does not fit beside them."""
    rows = [Row(tuple(map(one_line, row.cells)), tuple(map(one_line, row.notes)), row.styles) for row in rows]
    if screen.width is None:
        columns = [*columns, Column("notes")] if any(row.notes for row in rows) else columns
        rows = [Row((*row.cells, "; ".join(row.notes))[: len(columns)], (), row.styles) for row in rows]
    widths = [_width(index, column, rows) for index, column in enumerate(columns)]
    shown = _fitting(widths, screen.width)
    lines = [screen.paint(_line([c.heading for c in columns], columns, widths, shown, {}, Screen()), "bold")]
    for row in rows:
        lines.append(_line(row.cells, columns, widths, shown, dict(row.styles), screen))
        lines += _below(row, columns[shown:], shown, screen)
    return lines


def _width(index: int, column: Column, rows: Sequence[Row]) -> int:
    return max([cell_width(column.heading), *(cell_width(row.cells[index]) for row in rows)])


def _fitting(widths: Sequence[int], limit: int | None) -> int:
    """Return how many columns fit, at least the first, which identifies the row."""
    if limit is None:
        return len(widths)
    count = len(widths)
    while count > 1 and sum(widths[:count]) + len(GAP) * (count - 1) > limit:
        count -= 1
    return count


def _line(
    cells: Sequence[str],
    columns: Sequence[Column],
    widths: Sequence[int],
    shown: int,
    styles: dict[str, str],
    screen: Screen,
) -> str:
    parts = []
    for cell, column, width in list(zip(cells, columns, widths, strict=False))[:shown]:
        blanks = " " * (width - cell_width(cell))
        painted = screen.paint(cell, styles.get(column.heading, ""))
        parts.append(blanks + painted if column.right else painted + blanks)
    return GAP.join(parts).rstrip()


def _below(row: Row, moved: Sequence[Column], shown: int, screen: Screen) -> list[str]:
    """Return the lines below a row: the cells that did not fit, in one line if it fits; then each note."""
    facts = [f"{column.heading} {cell}" for column, cell in zip(moved, row.cells[shown:], strict=True) if _says(cell)]
    return [line for text in (", ".join(facts), *row.notes) for line in _wrapped(text, screen)]


def _says(cell: str) -> bool:
    return cell not in ("", "-")


def _wrapped(text: str, screen: Screen) -> list[str]:
    width = max(LEAST_WIDTH, (screen.width or 0))
    return [
        screen.paint(line, "dim")
        for line in textwrap.wrap(text, width, initial_indent=INDENT, subsequent_indent=INDENT + GAP)
    ]
