"""What a file descriptor can show: its width if it is a terminal, and its colours. Runs in every process."""

import os
from collections.abc import Mapping

CODES = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36, "bold": 1, "dim": 2}


def is_terminal(fd: int) -> bool:
    """Return whether `fd` is a terminal; a closed descriptor is none."""
    try:
        return os.isatty(fd)
    except OSError:
        return False


def terminal_width(fd: int) -> int | None:
    """Return the columns of a terminal; None for anything else, in which a line may have any length."""
    if not is_terminal(fd):
        return None
    try:
        return os.get_terminal_size(fd).columns or 80  # a pseudo-terminal without a size says 0
    except OSError:
        return 80


def has_colours(fd: int, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether text on `fd` may have colours: on a terminal that knows them, unless NO_COLOR is set
    (https://no-color.org)."""
    return is_terminal(fd) and not environ.get("NO_COLOR") and environ.get("TERM", "") not in ("", "dumb")


def styled(text: str, style: str) -> str:
    """Return `text` in a style of CODES, as ECMA-48 writes it (SGR); without a style, or without a text, as it is."""
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if style and text else text
