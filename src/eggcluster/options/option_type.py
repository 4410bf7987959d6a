"""The kinds of values that options have: how each is read and what is right. Pure functions, no I/O."""

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

from eggcluster.wording import near_miss, shown


class BadValue(ValueError):
    """A value is not of its kind. The text goes on after the value; without one it is "is not <expected>"."""


@dataclass(frozen=True)
class OptionType:
    """`expected` says what is right; `read` makes a plain value of text; `take` lets only right ones pass.

    Both raise `BadValue`. Text is what command line and environment give; a file and Python give plain values.
    """

    expected: str
    read: Callable[[str], object]
    take: Callable[[object], object]


def convert(kind: OptionType, raw: object, *, is_text: bool, is_secret: bool = False) -> object:
    """The value that `raw` stands for. `BadValue` is raised with what goes behind the option's name."""
    value = raw
    try:
        if is_text and isinstance(raw, str):
            value = kind.read(raw)
        return kind.take(value)
    except BadValue as wrong:
        why = str(wrong) or f"is not {kind.expected}"
        raise BadValue(f"{'its value' if is_secret else shown(value)} {why}") from None


def text(expected: str, pattern: str = r"[^\0]+") -> OptionType:
    """Text that matches `pattern` as a whole."""

    def take(value: object) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        raise BadValue

    return OptionType(expected, str, take)


def whole(expected: str, least: int, most: int) -> OptionType:
    """A whole number from `least` to `most`."""

    def take(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise BadValue

    return OptionType(f"{expected} from {least} to {most}", _read_whole, take)


def whole_or(word: str, kind: OptionType) -> OptionType:
    """That whole number, or this one word."""
    return OptionType(
        f'{kind.expected}, or "{word}"',
        lambda raw: raw if raw == word else kind.read(raw),
        lambda value: value if value == word else kind.take(value),
    )


def seconds(expected: str = "a number of seconds above 0") -> OptionType:
    """A time above zero and short of forever; whole numbers will do."""

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
    """A time above zero, at least `least`, and short of forever; zero stands for never."""
    positive = seconds("a number of seconds" + (f" from {least:g} on" if least else "") + ", or 0 for never")

    def take(value: object) -> object:
        if value == 0 and not isinstance(value, bool):
            return 0.0
        taken = positive.take(value)
        if isinstance(taken, float) and taken < least:
            raise BadValue
        return taken

    return OptionType(positive.expected, positive.read, take)


def size(expected: str, least: int, most: int) -> OptionType:
    """A number of bytes; text may have a unit: KiB, MiB, GiB, or K, M, G for the same."""
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


def switch() -> OptionType:
    """On or off."""

    def take(value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise BadValue

    return OptionType("true or false", str, take)


def choice(*words: str) -> OptionType:
    """One of these words."""

    def take(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise BadValue(f"is not one of {', '.join(words)}{near_miss(str(value), words)}")

    return OptionType(", ".join(words), str, take)


def log_level() -> OptionType:
    """A level of Python's logging, in either case; WARN as Egg writes it."""
    levels = choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

    def take(value: object) -> object:
        word = value.upper() if isinstance(value, str) else value
        return levels.take("WARNING" if word == "WARN" else word)

    return OptionType(levels.expected, str, take)


def start_mode() -> OptionType:
    """The ways of having a worker."""
    modes = choice("process", "thread", "interpreter")

    def take(value: object) -> object:
        if value == "interpreter" and sys.version_info < (3, 14):
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise BadValue(f'needs Python 3.14 or later, and this is {version}; use "process"')
        return modes.take(value)

    return OptionType(modes.expected, str, take)


def many(expected: str, item: OptionType, *, separator: str | None = None) -> OptionType:
    """Several values of one kind, as a tuple; in text they stand between separators, if there is one."""

    def read(raw: str) -> object:
        return [item.read(part.strip()) for part in raw.split(separator)] if separator else [item.read(raw)]

    def take(value: object) -> tuple[object, ...]:
        if not isinstance(value, list | tuple):
            raise BadValue
        return tuple(item.take(each) for each in value)

    return OptionType(expected, read, take)


def _read_whole(raw: str) -> int:
    # int() alone would also take "1_000", and digits of any script.
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", raw.strip()):
        raise BadValue
    return int(raw)
