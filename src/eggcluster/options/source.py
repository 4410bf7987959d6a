"""Owns the sources of options: the call, the environment, a file. Runs in whoever starts a cluster."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from eggcluster.options.cluster_options import ClusterOptions
from eggcluster.options.near import near_miss
from eggcluster.options.table import BY_FIELD, OPTIONS


class CommandLine(dict[str, object]):
    """What the command line gave, by field name: text still to be read, named by its flag when wrong."""


@dataclass(frozen=True)
class Source:
    """One place's options as they were given there, by field name, and how it calls each of them.

    `problems` are those of the place itself: a file that does not parse, a key that nobody knows.
    """

    values: dict[str, object]
    names: dict[str, str] = field(default_factory=dict)
    is_text: bool = False
    directory: str = ""  # relative paths begin here; empty: the current one
    problems: tuple[str, ...] = ()


def from_caller(given: ClusterOptions | Mapping[str, object] | str | None, options: Mapping[str, object]) -> Source:
    """What stands in the call of `parse_options`; `options` win over `given`."""
    if isinstance(given, CommandLine):
        flags = {name: option.flag for name, option in BY_FIELD.items() if option.flag}
        return Source({**given, **options}, flags, is_text=True)
    values = {**_plain(given), **options}
    problems = tuple(f"{name}: is no option{near_miss(name, BY_FIELD)}" for name in values if name not in BY_FIELD)
    return Source({name: value for name, value in values.items() if name in BY_FIELD}, problems=problems)


def from_environment(environ: Mapping[str, str]) -> Source:
    """The environment's variables. An empty one counts as not set, as shells and container files mean it."""
    names = {}
    for option in OPTIONS:
        found = next((variable for variable in option.env if environ.get(variable)), None)
        if found is not None:
            names[option.field] = found
    return Source({name: environ[variable] for name, variable in names.items()}, names, is_text=True)


def from_table(table: Mapping[str, object], file: str, directory: str) -> Source:
    """A file's keys, written with dashes or underscores."""
    values: dict[str, object] = {}
    names: dict[str, str] = {}
    problems = []
    for key, value in table.items():
        name = key.replace("-", "_")
        if name in values:
            problems.append(f"{file}: {key}: is there twice, with dashes and with underscores")
        elif name in BY_FIELD and BY_FIELD[name].in_file:
            values[name], names[name] = value, f"{file}: {key}"
        else:
            problems.append(f"{file}: {key}: {_no_key(name)}")
    return Source(values, names, directory=directory, problems=tuple(problems))


def _plain(given: ClusterOptions | Mapping[str, object] | str | None) -> dict[str, object]:
    match given:
        case None:
            return {}
        case str():
            return {"app": given}
        case ClusterOptions():
            # `listen_fds` is an answer of `parse_options`, never a wish.
            return {name: getattr(given, name) for name in given.given if name in BY_FIELD}
        case _:
            return dict(given)


def _no_key(name: str) -> str:
    if name in BY_FIELD:
        return "cannot be set in a file, which is found by it"
    return "is no option" + near_miss(name, [key for key, option in BY_FIELD.items() if option.in_file])


Naming = Callable[[str], str]
"""How the source that gave a field calls it; one that nobody gave is called as the caller would write it."""
