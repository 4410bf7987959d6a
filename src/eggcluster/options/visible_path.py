"""Paths as the user sees them: links on the way are kept. Runs in the process that starts a cluster, and in the shell.

A deploy exchanges such a link (`current -> releases/r2`). A path that was resolved at the start would name the old
release for ever; one that is kept names the new one from the next start of a worker on.
"""

import os
from collections.abc import Iterable, Mapping


def working_directory(environ: Mapping[str, str]) -> str:
    """Return the current directory: $PWD if that is the same one, as the shell's `pwd -L`, else the path without links.
    FileNotFoundError if the directory was removed."""
    seen = environ.get("PWD", "")
    if seen.startswith("/") and os.path.normpath(seen) == seen and _is_same(seen, os.curdir):
        return seen
    return os.getcwd()


def visible(path: str, directory: str) -> str:
    """Return `path`, which begins at `directory`, as an absolute path in its shortest form."""
    joined = os.path.join(directory, path)
    short = os.path.normpath(joined)
    if ".." in path.split("/") and os.path.exists(joined) and not _is_same(short, joined):
        return os.path.realpath(joined)  # "link/..": the shortest form would name another file
    return short


def follow(path: str, directories: Iterable[str]) -> str:
    """Return the name that a file has by way of one of these directories, or of one above it: where `/srv/current` is a
    link to `/srv/r1`, /srv/r1/venv/bin/python is /srv/current/venv/bin/python. `path` itself if there is no such name.
    """
    for directory in directories:
        above = directory
        while above.strip("/") and "\0" not in above:
            real = os.path.realpath(above)
            named = above + path[len(real) :]
            if real != above and path.startswith(f"{real}/") and _is_same(named, path):
                return named
            above = os.path.dirname(above)
    return path


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # ValueError: a zero byte
        return False
