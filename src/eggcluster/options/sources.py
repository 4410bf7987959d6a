"""The sources of options, and the rules by which one value wins. Runs in the process that starts a cluster."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from eggcluster.errors import OptionsError
from eggcluster.options.cluster_options import ClusterOptions, ResolvedOptions, default_of, given_fields
from eggcluster.options.option_type import BadValue, convert
from eggcluster.options.table import BY_FIELD, OPTIONS
from eggcluster.wording import near_miss, shown


class CommandLine(dict[str, object]):
    """The options given on the command line, by field. Values are text that is not converted yet; error lines name the
    flag."""


@dataclasses.dataclass(frozen=True)
class Source:
    """The options that one place gives, by field, and the name that this place uses for each field.

    `problems` are the mistakes in the place itself: a file that does not parse, an unknown key.
    """

    values: dict[str, object]
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    is_text: bool = False
    directory: str = ""  # relative paths begin here; empty: the current one
    problems: tuple[str, ...] = ()


def from_caller(given: ClusterOptions | Mapping[str, object] | str | None, options: Mapping[str, object]) -> Source:
    """Return the options in a call of `parse_options`; `options` win over `given`. Python may give a `pathlib.Path`
    wherever an option is text."""
    options = _with_paths_as_text(options)
    if isinstance(given, CommandLine):
        flags = {name: option.flag for name, option in BY_FIELD.items() if option.flag}
        return Source({**given, **options}, flags, is_text=True)
    values = {**_with_paths_as_text(_plain(given)), **options}
    problems = tuple(f"{name}: is not an option{_instead(name, BY_FIELD)}" for name in values if name not in BY_FIELD)
    names = given.names if isinstance(given, ResolvedOptions) else {}
    names = {field: name for field, name in names.items() if field not in options}
    return Source({name: value for name, value in values.items() if name in BY_FIELD}, names, problems=problems)


def from_environment(environ: Mapping[str, str]) -> Source:
    """Return the options in environment variables. An empty variable counts as not set, as in shells and container
    files."""
    names = {}
    for option in OPTIONS:
        found = next((variable for variable in option.env if environ.get(variable)), None)
        if found is not None:
            names[option.field] = found
    return Source({name: environ[variable] for name, variable in names.items()}, names, is_text=True)


def from_resolution(given: object) -> Source:
    """Return the values that followed from other options when `given` was resolved.

    They outlive a change of the environment, and give way to a replaced option that excludes them.
    """
    if not isinstance(given, ResolvedOptions):
        return Source({})
    return Source({name: value for name, value in given.derived.items() if name in BY_FIELD})


def from_table(table: Mapping[str, object], file: str, directory: str) -> Source:
    """Return the options in the table of a file. Its keys may be written with dashes or underscores."""
    values: dict[str, object] = {}
    names: dict[str, str] = {}
    problems = []
    for key, value in table.items():
        name = key.replace("-", "_")
        if name in values:
            problems.append(f"{file}: {key}: is given twice, with dashes and with underscores; give it once")
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
            # Without `listen_fds`, which `parse_options` counts itself.
            return {name: value for name, value in given_fields(given).items() if name in BY_FIELD}
        case _:
            return dict(given)


def _with_paths_as_text(values: Mapping[str, object]) -> dict[str, object]:
    """Return the same values, each `pathlib.Path` as its text. (A path as bytes stays, and is refused.)"""
    return {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in values.items()}


def _no_key(name: str) -> str:
    if name in BY_FIELD:
        return "cannot be set in a file, because it says where the file is; use --base-dir"
    return "is not an option" + _instead(name, [key for key, option in BY_FIELD.items() if option.in_file])


def _instead(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of a name that is no field: another server's option, or a field that is near."""
    from eggcluster.options.other_servers import field_hint  # only on the way to an error

    instead = field_hint(name)
    return f"; {instead}" if instead else near_miss(name, known)


Naming = Callable[[str], str]
"""Returns the name of a field for an error line: `--port`, `PORT` or `pyproject.toml: port`, by the source that gave
it. If no source gave the field, it is the name that the caller of `parse_options` would use."""


PROJECT_FILE = "pyproject.toml"
OWN_FILE = "eggcluster.toml"


def from_file(base_dir: str) -> Source:
    """Return the options in the files of `base_dir`: the table `[tool.eggcluster]` of pyproject.toml, or the whole of
    eggcluster.toml. Both together are a problem."""
    try:
        project, own = _project_table(base_dir), _load(os.path.join(base_dir, OWN_FILE))
        if project is not None and own:
            raise OptionsError(f"{PROJECT_FILE} has [tool.eggcluster], and {OWN_FILE} exists, too; keep one of them")
    except OptionsError as error:
        return Source({}, problems=tuple(error.problems))
    if project is not None:
        return from_table(project, PROJECT_FILE, base_dir)
    return from_table(own or {}, OWN_FILE, base_dir)


def _project_table(base_dir: str) -> dict[str, Any] | None:
    document = _load(os.path.join(base_dir, PROJECT_FILE), only_with=b"eggcluster")
    tool = (document or {}).get("tool")
    table = tool.get("eggcluster") if isinstance(tool, dict) else None
    if table is None or isinstance(table, dict):
        return table
    raise OptionsError(f"{PROJECT_FILE}: tool.eggcluster: {shown(table)} is not a table of options")


def _load(path: str, *, only_with: bytes = b"") -> dict[str, Any] | None:
    # `only_with`: a pyproject.toml that does not mention eggcluster is neither parsed (4 ms) nor checked.
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a zero byte in the path
        return None
    except OSError as error:
        raise OptionsError(f"{os.path.basename(path)}: cannot be read: {error.strerror}") from None
    return _parse(content, os.path.basename(path)) if only_with in content else None


def _parse(content: bytes, file: str) -> dict[str, Any]:
    import tomllib  # most base directories have no table for eggcluster

    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise OptionsError(f"{file}: is not UTF-8 (at line {line}, column {column})") from None
    except ValueError as error:  # TOMLDecodeError, or a number that is too long for int()
        raise OptionsError(f"{file}: is not TOML: {error}") from None
    except RecursionError:
        raise OptionsError(f"{file}: cannot be read: its TOML is nested too deeply") from None


ROLE_LEVELS = ("master_log_level", "agent_log_level", "app_log_level")
LISTENING = ("host", "port", "uds", "fd", "ports")

# The options on the left exclude those on the right: only one of them can be given.
EXCLUSIONS = {
    "uds": ("host", "port", "fd", "ports"),
    "fd": ("host", "port", "ports"),
    "ports": ("port",),
    "no_agent": ("agent",),
}


class SourcedValue(NamedTuple):
    """One field's value, the rank of its source (a higher rank wins), and the name that its source uses for it."""

    value: object
    rank: int
    name: str
    is_text: bool
    directory: str


def merge(sources: Iterable[Source]) -> dict[str, SourcedValue]:
    """Return the winning value of each field: that of the last source that has one."""
    entries: dict[str, SourcedValue] = {}
    for rank, source in enumerate(sources):
        for field, value, named_by in _with_role_levels(source.values):
            name = source.names.get(named_by, named_by)
            entries[field] = SourcedValue(value, rank, name, source.is_text, source.directory)
    return entries


def resolve_conflicts(entries: Mapping[str, SourcedValue]) -> tuple[dict[str, SourcedValue], list[str]]:
    """Apply EXCLUSIONS: drop each value that excludes one of a later source. Return the values that are left, and an
    error line for each two values of the same source that exclude each other."""
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


def convert_values(entries: Mapping[str, SourcedValue]) -> tuple[dict[str, object], dict[str, str]]:
    """Convert each value to its option's type. Return the values by field, and the error lines of wrong fields."""
    values: dict[str, object] = {}
    wrong: dict[str, str] = {}
    for field, entry in entries.items():
        option = BY_FIELD[field]
        if not is_chosen(entry.value) and entry.value == default_of(field):
            continue  # the default, given explicitly: `resolve` finds the value that it stands for
        try:
            values[field] = convert(option.kind, entry.value, is_text=entry.is_text, is_secret=option.is_secret)
        except BadValue as problem:
            wrong[field] = f"{entry.name}: {problem}"
    return values, wrong


def is_chosen(value: object) -> bool:
    """Return whether a value asks for something: `ports=()` and `no_agent=False` do not, port 0 does."""
    return value not in (None, "", (), []) and value is not False


def _exclude(one: str, other: str) -> bool:
    return other in EXCLUSIONS.get(one, ()) or one in EXCLUSIONS.get(other, ())


def _with_role_levels(values: Mapping[str, object]) -> Iterable[tuple[str, object, str]]:
    # `log_level` stands for all three roles. Within one source, the level of a single role wins over it.
    if "log_level" in values:
        yield from ((role, values["log_level"], "log_level") for role in ROLE_LEVELS)
    yield from ((field, value, field) for field, value in values.items())
