"""The order of the sources: which of two values wins, and which options exclude each other. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from eggcluster.options.cluster_options import default_of
from eggcluster.options.option_type import BadValue, convert
from eggcluster.options.sources import Source
from eggcluster.options.table import BY_FIELD

ROLE_LEVELS = ("master_log_level", "agent_log_level", "app_log_level")
LISTENING = ("host", "port", "uds", "fd", "ports")

# Each of these cannot stand beside those.
EXCLUSIONS = {
    "uds": ("host", "port", "fd", "ports"),
    "fd": ("host", "port", "ports"),
    "ports": ("port",),
    "no_agent": ("agent",),
}


class SourcedValue(NamedTuple):
    """One field's value, where it stands in the order of sources, and how its source calls it."""

    value: object
    rank: int
    name: str
    is_text: bool
    directory: str


def merge(sources: Iterable[Source]) -> dict[str, SourcedValue]:
    """The winning value of each field: that of the last source which has one."""
    entries: dict[str, SourcedValue] = {}
    for rank, source in enumerate(sources):
        for field, value, named_by in _with_role_levels(source.values):
            name = source.names.get(named_by, named_by)
            entries[field] = SourcedValue(value, rank, name, source.is_text, source.directory)
    return entries


def settle(entries: Mapping[str, SourcedValue]) -> tuple[dict[str, SourcedValue], list[str]]:
    """What is left when later sources have overruled what excludes theirs; the quarrels within one source."""
    kept: dict[str, SourcedValue] = {}
    problems = []
    for field, entry in sorted(entries.items(), key=lambda item: -item[1].rank):
        rivals = [kept[other] for other in kept if _exclude(field, other) and is_chosen(kept[other].value)]
        if not rivals or not is_chosen(entry.value):
            kept[field] = entry
        elif all(rival.rank == entry.rank for rival in rivals):
            kept[field] = entry
            problems += [f"{rival.name} and {entry.name} exclude each other; give one of them" for rival in rivals]
    return kept, problems


def read(entries: Mapping[str, SourcedValue]) -> tuple[dict[str, object], dict[str, str]]:
    """The values, each of its option's kind; and for each field that is wrong the line that says so."""
    values: dict[str, object] = {}
    wrong: dict[str, str] = {}
    for field, entry in entries.items():
        option = BY_FIELD[field]
        if not is_chosen(entry.value) and entry.value == default_of(field):
            continue  # the default, said aloud: what it stands for is found out later
        try:
            values[field] = convert(option.kind, entry.value, is_text=entry.is_text, is_secret=option.is_secret)
        except BadValue as problem:
            wrong[field] = f"{entry.name}: {problem}"
    return values, wrong


def is_chosen(value: object) -> bool:
    """Whether it asks for something: `ports=()` and `no_agent=False` do not, port 0 does."""
    return value not in (None, "", (), []) and value is not False


def _exclude(one: str, other: str) -> bool:
    return other in EXCLUSIONS.get(one, ()) or one in EXCLUSIONS.get(other, ())


def _with_role_levels(values: Mapping[str, object]) -> Iterable[tuple[str, object, str]]:
    # `log_level` stands for all three roles, but within one source what is said of a single role counts more.
    if "log_level" in values:
        yield from ((role, values["log_level"], "log_level") for role in ROLE_LEVELS)
    yield from ((field, value, field) for field, value in values.items())
