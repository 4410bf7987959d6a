"""What may be declared as a scheduled or background function, and under which name. Pure."""

import functools
import inspect
from typing import Any

NAME_LENGTH = 100  # characters: names stand in log lines and in tables


def is_function(function: Any) -> bool:
    """Whether it is a function, a method or an object that can be called; a class would only make an object."""
    return callable(function) and not isinstance(function, type)


def check_runs(function: Any) -> None:
    """ValueError for a function that has `yield` in it: calling it runs nothing."""
    while isinstance(function, functools.partial):
        function = function.func
    called = type(function).__call__
    for each in (function, called):
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise ValueError("it is a generator, and calling it runs nothing: take the yield out of it")


def check_name(name: Any, term: str = "name") -> str:
    """The name; ValueError for one that does not fit in a line of a log or a table."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{term}={short(name)} is no text")
    if not name.isprintable():
        raise ValueError(f"{term}={short(name)} has characters that cannot be printed")
    if len(name) > NAME_LENGTH:
        raise ValueError(f"{term}={short(name)} has more than {NAME_LENGTH} characters")
    return name


def short(value: Any) -> str:
    """Anything as one short line, for an error message."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an object of the application's, or a number with more digits than Python writes
        text = f"<{type(value).__name__}>"
    return text if len(text) <= NAME_LENGTH else f"{text[: NAME_LENGTH // 2]}..."
