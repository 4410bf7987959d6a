"""Owns the reading of `pyproject.toml` and `eggcluster.toml`. Runs in whoever starts a cluster."""

import os
from typing import Any

from eggcluster.errors import OptionsError
from eggcluster.options.near import shown
from eggcluster.options.source import Source, from_table

PROJECT_FILE = "pyproject.toml"
OWN_FILE = "eggcluster.toml"


def from_file(base_dir: str) -> Source:
    """What the files in `base_dir` say: `[tool.eggcluster]` in one, the whole of the other, never both."""
    try:
        project, own = _project_table(base_dir), _load(os.path.join(base_dir, OWN_FILE))
        if project is not None and own:
            raise OptionsError(f"{PROJECT_FILE} has [tool.eggcluster] and there is {OWN_FILE} too; keep one of them")
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
    # `only_with`: a pyproject.toml that does not speak of us is neither parsed (4 ms) nor criticised.
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a zero byte in the path
        return None
    except OSError as error:
        raise OptionsError(f"{os.path.basename(path)}: cannot be read: {error.strerror}") from None
    return _parse(content, os.path.basename(path)) if only_with in content else None


def _parse(content: bytes, file: str) -> dict[str, Any]:
    import tomllib  # most base directories have no table of ours

    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise OptionsError(f"{file}: is not UTF-8 (at line {line}, column {column})") from None
    except ValueError as error:  # TOMLDecodeError, or a number that is too long for int()
        raise OptionsError(f"{file}: is not TOML: {error}") from None
    except RecursionError:
        raise OptionsError(f"{file}: is not TOML that can be read: it is nested too deeply") from None
