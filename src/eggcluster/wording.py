"""Makes values, errors and names that come from outside fit for a message or a log line. Runs in every process.

Text of an application, of a client or of a file reaches a terminal or a log through `one_line` or `indented` alone:
escape sequences, newlines and bidi marks in it can neither move a cursor nor forge a line. Imports the standard
library alone, so every layer may import it.
"""

from collections.abc import Iterable
from typing import Any

MAX_SHOWN = 80  # characters of a value in an error message of the options: one line of a terminal
MAX_SHORT = 100  # characters of a value in an error message of a declaration
MAX_ERROR = 300  # characters of an exception in the status; the log has the whole text
MAX_PRINTABLE = 64 * 1024  # characters of a traceback or report in a message


def near_miss(word: str, names: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for the name nearest to `word`, or "" if no name is near."""
    import difflib  # only on the way to an error

    close = difflib.get_close_matches(word, [name for name in names if name != word], n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def shown(value: object) -> str:
    """Return a value as one line for an error message: text in double quotes, a tuple's items in a row."""
    if isinstance(value, tuple) and value:
        return ", ".join(shown(each) for each in value[:5]) + (", ..." if len(value) > 5 else "")
    text = f'"{repr(value)[1:-1]}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 4] + " ..."


def short(value: Any) -> str:
    """Return the `repr` of any object as one short line, or its type's name if `repr` raises."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an object of the application, or a number with more digits than Python writes
        text = f"<{type(value).__name__}>"
    return text if len(text) <= MAX_SHORT else f"{text[: MAX_SHORT // 2]}..."


def described(error: BaseException) -> str:
    """Return an exception as one short line, or only its class's name if `str` raises."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # an exception class of the application
        text = ""
    name = type(error).__name__
    return printable(f"{name}: {text}" if text else name, MAX_ERROR).replace("\n", " ")


SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def one_line(text: str) -> str:
    """Return foreign text as one line that a terminal shows as it is.

    Whatever `str.isprintable` does not call printable (control characters, bidi marks, line separators, unassigned
    characters) is shown by its number: `\\n`, `\\x1b`, `\\u202e`, `\\U000e0001`. So is a byte that is not UTF-8, which
    Python holds as a lone surrogate (PEP 383). Calling it on its own result changes nothing.
    """
    return text if text.isprintable() else "".join(map(_escape, text))


def indented(text: str) -> str:
    """Return foreign text of several lines, each as in `one_line` and indented by two blanks: a line at the margin is
    always one of ours."""
    return "\n".join(f"  {one_line(line.expandtabs())}" for line in text.split("\n"))


def json_line(text: str) -> str:
    """Return JSON whose strings have `\\u` escapes for what a terminal does not show as it is; its value is the same.
    Newlines stay: between two values they are layout, and in a string JSON has escaped them already."""
    if text.isprintable():
        return text
    return "".join(each if each == "\n" or each.isprintable() else _json_escape(each) for each in text)


def _escape(character: str) -> str:
    if character in SHORT_ESCAPES:
        return SHORT_ESCAPES[character]
    if character.isprintable():
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is not UTF-8
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def printable(text: str, limit: int = MAX_PRINTABLE) -> str:
    """Return `text` as MessagePack and a log can carry it: without lone surrogates, its middle cut out if it is longer
    than `limit` characters."""
    whole = text.encode("utf-8", "backslashreplace").decode()
    return whole if len(whole) <= limit else f"{whole[: limit // 2]}\n[...]\n{whole[-limit // 2 :]}"


def duration(seconds: float) -> str:
    """Return a duration in the unit that reads best: `0.12ms`, `229ms`, `4.2s`, `3m07s`, `5h12m`, `9d03h`."""
    milliseconds = max(0.0, seconds) * 1000
    if milliseconds < 999.5:
        return f"{round(milliseconds, 2 if milliseconds < 1 else 1 if milliseconds < 10 else None):g}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 24 else f"{hours // 24}d{hours % 24:02}h"
