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
        """Return `text`, which has been through `one_line`, in this style, if the screen has colours."""
        return styled(text, style) if self.colours else text


def standard_output() -> Screen:
    """Return the screen behind descriptor 1, as it is now."""
    return Screen(terminal_width(1), has_colours(1))


def cell_width(text: str) -> int:
    """Return the columns that `text` takes on a terminal: two for wide characters, none for those that combine."""
    return sum(0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF") for each in text)
