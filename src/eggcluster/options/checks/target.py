"""Checks of `module:attribute`, without importing user code. Runs in the process that starts a cluster."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from eggcluster.options.cluster_options import ResolvedOptions
from eggcluster.options.sources import Naming
from eggcluster.wording import near_miss, shown

if TYPE_CHECKING:
    from eggcluster.options.checks.module_names import ModuleNames
    from eggcluster.options.checks.module_source import Absent, Found


def check_app(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that the module exists and has the attribute. Only a worker can tell whether that is an application."""
    for problem in _check_target(name("app"), options.app, options.base_dir):
        yield problem if "app" in options.named else f"{problem}; name yours as module:attribute"


def check_agent(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that the agent's module exists and has the attribute."""
    if options.agent is None:
        return
    for problem in _check_target(name("agent"), options.agent, options.base_dir):
        yield problem if "agent" in options.named else f"{problem}; to run without an agent, use {name('no_agent')}"


def check_framework(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that the framework's module exists and defines both classes."""
    if options.framework == "eggcluster":
        return
    names, why = _names_of(options.framework, options.base_dir)
    if names is not None and not names.is_dynamic:
        missing = [f"`{each}`" for each in ("Application", "Agent") if each not in names.names]
        why = f"does not define {' and '.join(missing)}; name a module that defines both" if missing else ""
    if why:
        yield f"{name('framework')}: {shown(options.framework)} {why}"


def check_require(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that each module exists."""
    from eggcluster.options.checks.module_source import Found, find_module

    for module in options.require:
        found = find_module(module, options.base_dir)
        if not isinstance(found, Found):
            yield f"{name('require')}: {shown(module)} {_not_there(found, options.base_dir)}"


def _check_target(name: str, target: str, base_dir: str) -> Iterator[str]:
    module, _, path = target.partition(":")
    names, why = _names_of(module, base_dir)
    if names is not None:
        why = _missing_attribute(names, module, path, base_dir)
    if why:
        yield f"{name}: {shown(target)} {why}"


def _names_of(module: str, base_dir: str) -> "tuple[ModuleNames | None, str]":
    """Return the names that a module binds, or None and why they cannot be read; None and "" if the source does not
    tell."""
    from eggcluster.options.checks.module_names import module_names
    from eggcluster.options.checks.module_source import Found, find_module

    found = find_module(module, base_dir)
    if not isinstance(found, Found):
        return None, _not_there(found, base_dir)
    if found.is_bare_directory:
        return None, _bare_directory(module, found)
    if found.source is None:
        return None, ""
    try:
        with open(found.source, "rb") as file:
            return module_names(file.read()), ""
    except OSError as error:
        return None, f"cannot be read: {found.source}: {error.strerror}"


def _missing_attribute(names: "ModuleNames", module: str, path: str, base_dir: str) -> str:
    from eggcluster.options.checks.module_source import Found, find_module

    first = path.partition(".")[0]
    if first in names.names or names.is_dynamic or isinstance(find_module(f"{module}.{first}", base_dir), Found):
        return ""
    public = [each for each in names.names if not each.startswith("__")]
    return f'does not exist: module "{module}" has no attribute "{first}"{near_miss(first, public)}'


def _not_there(absent: "Absent", base_dir: str) -> str:
    hint = near_miss(absent.name, absent.neighbours)
    if absent.name.endswith(".py"):
        hint = f'; a module is named without ".py": "{absent.name[:-3]}"'
    return f'does not exist: no module "{absent.name}" in {base_dir} or on Python\'s path{hint}'


def _bare_directory(module: str, found: "Found") -> str:
    files = {
        entry[:-3]
        for place in found.locations
        if os.path.isdir(place)
        for entry in os.listdir(place)
        if entry.endswith(".py")
    }
    example = f', for instance "{module}.{min(files)}"' if files else ""
    return f'does not exist: "{module}" is a directory without __init__.py; name a module in it{example}'
