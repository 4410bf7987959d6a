"""The screen of a command: its width, its colours, and what fits on it. Runs in the user's shell."""

import unicodedata
from dataclasses import dataclass

from eggcluster.kernel.terminal import has_colours, styled, terminal_width


@dataclass(frozen=True)
class Screen:
    """`width` in columns; None: no terminal, and each thing is one line of any length."""

    width: int | None = None
    colours: bool = False

    def paint(self, text: str, style: str) -> str:
        """Return `text` in this style, if the screen has colours."""
        return styled(text, style) if self.colours else text


def standard_output() -> Screen:
    """Return the screen behind descriptor 1, as it is now."""
    return Screen(terminal_width(1), has_colours(1))


def one_line(text: str) -> str:
    """Replace what cannot be printed by blanks: it could move the terminal's cursor, or do worse."""
    return "".join(each if each.isprintable() else " " for each in text)


def harmless(text: str) -> str:
    """As `one_line`, for a text of several lines, such as a traceback."""
    return "\n".join(map(one_line, text.split("\n")))


def cell_width(text: str) -> int:
    """Return the columns that `text` takes on a terminal: two for wide characters, none for those that combine."""
    return sum(0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF") for each in text)
