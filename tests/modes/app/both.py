"""What agent and app workers have in common; both import it. What is said here of `messenger` is said for each."""

import contextlib
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eggcluster import messenger

HERE = Path(__file__).parent
answered: list[str] = []  # a module's global: of each worker where workers have modules of their own


def mark(file: str, *words: object) -> None:
    """A line that outlives the worker."""
    with (HERE / file).open("a") as out:
        out.write(" ".join(map(str, words)) + "\n")


async def run(source: str, names: dict[str, Any], given: Any = None) -> Any:
    """Execute what a test says: the body of an async function of `given`, in a module's names."""
    own = dict(names)
    exec("async def work(given):\n" + textwrap.indent(source, "    "), own)
    return await own["work"](given)


@messenger.on("double")
def double(number: int) -> int:
    answered.append("double")
    return number * 2


@messenger.on("refuse")
async def refuse(data: object) -> None:
    raise KeyError("not this one")


@messenger.once("first")
def first(data: object) -> str:
    return "once"


@contextlib.contextmanager
def refusals() -> Iterator[list[str]]:
    """The name of the exception that left the block; it goes no further."""
    names: list[str] = []
    try:
        yield names
    except Exception as error:
        names.append(type(error).__name__)
