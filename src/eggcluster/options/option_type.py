"""The types of option values: how each is read from text, and which values are right. Pure functions, without I/O.

Runs in the process that starts a cluster.
"""

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

from eggcluster.model.access_log_format import JSON, parse_format
from eggcluster.model.steering.key_source import ADDRESS, parse_key_source
from eggcluster.options.admin_address import parse_admin_address
from eggcluster.wording import near_miss, shown


class BadValue(ValueError):
    """A value is not right for its type. The text follows the value in the error line; an empty text stands for
    "is not <expected>"."""


@dataclass(frozen=True)
class OptionType:
    """How the values of one kind of option are read and checked.

    `expected` says in an error line what is right. `read` converts text to a plain value. `take` checks a plain value
    and returns it in its final form. Both raise BadValue. The command line and the environment give text; a file and
    Python give plain values.
    """

    expected: str
    read: Callable[[str], object]
    take: Callable[[object], object]


def convert(kind: OptionType, raw: object, *, is_text: bool, is_secret: bool = False) -> object:
    """Return the value that `raw` stands for. BadValue has the text that follows the option's name in the error line.

    `is_text`: `raw`, if it is a string, is read first. `is_secret`: the error line does not show the value.
    """
    value = raw
    try:
        if is_text and isinstance(raw, str):
            value = kind.read(raw)
        return kind.take(value)
    except BadValue as wrong:
        why = str(wrong) or f"is not {kind.expected}"
        raise BadValue(f"{'its value' if is_secret else shown(value)} {why}") from None


def text(expected: str, pattern: str = r"[^\0]+") -> OptionType:
    """Return the type of text that `pattern` matches as a whole."""

    def take(value: object) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        raise BadValue

    return OptionType(expected, str, take)


def header() -> OptionType:
    """Return the type of a header for every response (RFC 9110, 5). One that frames the response is the server's."""
    plain = text("NAME:VALUE", r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")
    framing = ("content-length", "transfer-encoding", "connection", "upgrade", "trailer")

    def take(value: object) -> object:
        taken = plain.take(value)
        if str(taken).partition(":")[0].lower() in framing:
            raise BadValue("names a header that the server sets by itself: leave it out")
        return taken

    return OptionType(plain.expected, str, take)


def sticky_way() -> OptionType:
    """Return the type of a way in which a client's worker is found: by its address, or by a key in its requests."""

    def take(value: object) -> str:
        if isinstance(value, str) and (value == ADDRESS or parse_key_source(value) is not None):
            return value
        raise BadValue

    return OptionType("address, cookie, cookie:NAME, header:NAME or query:NAME", str, take)


def access_log_format() -> OptionType:
    """Return the type of an access log's format."""

    def take(value: object) -> str:
        if not isinstance(value, str) or "\0" in value:
            raise BadValue
        try:
            for _ in parse_format(value) if value != JSON else ():
                pass
        except ValueError as wrong:
            raise BadValue(f"is wrong: {wrong}") from None
        return value

    return OptionType("a format of gunicorn's atoms, or json", str, take)


def admin_address() -> OptionType:
    """Return the type of the admin port's address; `take` returns it in full, with its host."""

    def take(value: object) -> str:
        try:
            return str(parse_admin_address(value if isinstance(value, str) else f"{value}"))
        except ValueError:
            raise BadValue from None

    return OptionType("HOST:PORT, a port number, or unix: and an absolute path", str, take)


def whole(expected: str, least: int, most: int) -> OptionType:
    """Return the type of a whole number from `least` to `most`."""

    def take(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise BadValue

    return OptionType(f"{expected} from {least} to {most}", _read_whole, take)


def whole_or(word: str, kind: OptionType) -> OptionType:
    """Return the type of a value that is of type `kind`, or is this one word."""
    return OptionType(
        f'{kind.expected}, or "{word}"',
        lambda raw: raw if raw == word else kind.read(raw),
        lambda value: value if value == word else kind.take(value),
    )


def seconds(expected: str = "a number of seconds above 0") -> OptionType:
    """Return the type of a duration: finite, above zero, as a float; a whole number is accepted."""

    def read(raw: str) -> float:
        try:
            return float(raw)
        except ValueError:
            raise BadValue from None

    def take(value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
            return float(value)
        raise BadValue

    return OptionType(expected, read, take)


def seconds_or_never(least: float = 0.0) -> OptionType:
    """Return the type of a duration that is finite and at least `least`, or 0 for never."""
    positive = seconds("a number of seconds" + (f", at least {least:g}" if least else "") + ", or 0 for never")

    def take(value: object) -> object:
        if value == 0 and not isinstance(value, bool):
            return 0.0
        taken = positive.take(value)
        if isinstance(taken, float) and taken < least:
            raise BadValue
        return taken

    return OptionType(positive.expected, positive.read, take)


def size(expected: str, least: int, most: int) -> OptionType:
    """Return the type of a number of bytes. Text may have a unit: KiB, MiB, GiB, or K, M, G for the same."""
    number = whole(expected, least, most)
    units = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}

    def read(raw: str) -> object:
        found = re.fullmatch(r"([0-9]{1,19})\s*(?:([KMG])(?:i?B)?)?", raw.strip(), re.IGNORECASE)
        if found is None:
            raise BadValue
        return int(found[1]) * units[(found[2] or "").upper()]

    def take(value: object) -> object:
        return number.take(read(value) if isinstance(value, str) else value)

    return OptionType(f"{expected} in bytes, or with a unit: 512MiB, 2GiB", read, take)


def permissions() -> OptionType:
    """Return the type of a file's permissions. Text is octal, as in chmod(1); Python gives the number: 0o660."""

    def read(raw: str) -> int:
        if not re.fullmatch("(0o|0)?[0-7]{1,3}", raw):
            raise BadValue
        return int(raw.removeprefix("0o"), 8)

    def take(value: object) -> int:
        number = read(value) if isinstance(value, str) else value
        if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= 0o777:
            return number
        raise BadValue

    return OptionType("permissions in octal, such as 0660", read, take)


def switch() -> OptionType:
    """Return the type of an option that is on or off."""

    def take(value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise BadValue

    return OptionType("true or false", str, take)


def choice(*words: str) -> OptionType:
    """Return the type of a value that is one of these words."""

    def take(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise BadValue(f"is not one of {', '.join(words)}{near_miss(str(value), words)}")

    return OptionType(", ".join(words), str, take)


def log_level() -> OptionType:
    """Return the type of a level of Python's logging, in upper or lower case. WARN is accepted, as Egg writes it."""
    levels = choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

    def take(value: object) -> object:
        word = value.upper() if isinstance(value, str) else value
        return levels.take("WARNING" if word == "WARN" else word)

    return OptionType(levels.expected, str, take)


def start_mode() -> OptionType:
    """Return the type of a start mode; `interpreter` is accepted from Python 3.14 on."""
    modes = choice("process", "thread", "interpreter")

    def take(value: object) -> object:
        if value == "interpreter" and sys.version_info < (3, 14):
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise BadValue(f'needs Python 3.14 or later, and this is {version}; use "process"')
        return modes.take(value)

    return OptionType(modes.expected, str, take)


def many(expected: str, item: OptionType, *, separator: str | None = None) -> OptionType:
    """Return the type of a tuple of `item` values. Text is split at `separator`; without one it is a single value."""

    def read(raw: str) -> object:
        return [item.read(part.strip()) for part in raw.split(separator)] if separator else [item.read(raw)]

    def take(value: object) -> tuple[object, ...]:
        if not isinstance(value, list | tuple):
            raise BadValue
        return tuple(item.take(each) for each in value)

    return OptionType(expected, read, take)


def _read_whole(raw: str) -> int:
    # int() alone would also accept "1_000", and digits of any script.
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", raw.strip()):
        raise BadValue
    return int(raw)
