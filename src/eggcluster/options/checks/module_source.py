"""Finds a module's source without importing anything. Runs in the process that starts a cluster.

The packages that contain the module are not imported either, and `sys.path` and the import caches stay as they are.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from typing import NamedTuple

LOADERS = (
    (ExtensionFileLoader, EXTENSION_SUFFIXES),
    (SourceFileLoader, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
)


class Found(NamedTuple):
    """A module that exists: its source file, if it has one, and the directories of its submodules."""

    source: str | None
    locations: Sequence[str]

    @property
    def is_bare_directory(self) -> bool:
        """Whether the module is a namespace package: a directory without `__init__.py`."""
        return self.source is None and bool(self.locations)


class Absent(NamedTuple):
    """The first part of a dotted name that does not exist, and the modules beside it that do."""

    name: str
    neighbours: Sequence[str]


def find_module(name: str, base_dir: str) -> Found | Absent:
    """Find where `name` would be imported from, with `base_dir` before Python's own path."""
    locations: Sequence[str] = [base_dir, *(entry or os.curdir for entry in sys.path)]
    found = Found(None, locations)
    prefix = ""
    for part in name.split("."):
        spec = _find(prefix + part, locations) or (None if prefix else _find_otherwise(part))
        if spec is None and (prefix + part in sys.modules or _may_hide_modules(found)):
            return Found(None, ())
        if spec is None:
            return Absent(prefix + part, [prefix + each for each in _modules_in(locations if prefix else [base_dir])])
        found = _found(spec)
        locations, prefix = found.locations, f"{prefix}{part}."
    return found


def _found(spec: ModuleSpec) -> Found:
    source = spec.origin if spec.origin and spec.origin.endswith(tuple(SOURCE_SUFFIXES)) else None
    return Found(source, list(spec.submodule_search_locations or ()))


def _may_hide_modules(parent: Found) -> bool:
    # os.path and six.moves are modules without a file of that name: their parent modules register them.
    if parent.source is None:
        return False
    try:
        with open(parent.source, "rb") as file:
            source = file.read()
    except OSError:
        return True
    return b"__path__" in source or b"sys.modules" in source


def _find(name: str, locations: Iterable[str]) -> ModuleSpec | None:
    # Fresh finders: those of the import system would cache what this search has read.
    portions: list[str] = []
    for location in locations:
        spec = FileFinder(location, *LOADERS).find_spec(name)
        if spec is not None and spec.loader is not None:
            return spec
        portions += (spec and spec.submodule_search_locations) or ()
    if not portions:
        return None
    namespace = ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = portions
    return namespace


def _find_otherwise(name: str) -> ModuleSpec | None:
    # Built-in and frozen modules, zip files, packages installed in editable mode. Only for the top level, where asking
    # these finders has no side effects; below it, they would need the parent to be imported.
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find_spec(name, None) if find_spec else None
        if spec is not None:
            return spec
    return None


def _modules_in(locations: Iterable[str]) -> list[str]:
    names = set()
    for location in locations:
        try:
            entries = os.listdir(location)
        except OSError:
            continue
        names |= {name for entry in entries if (name := _module_name(location, entry)).isidentifier()}
    return sorted(names)


def _module_name(location: str, entry: str) -> str:
    stem, suffix = os.path.splitext(entry)
    if suffix in SOURCE_SUFFIXES:
        return "" if stem == "__init__" else stem
    return entry if os.path.isfile(os.path.join(location, entry, "__init__.py")) else ""
