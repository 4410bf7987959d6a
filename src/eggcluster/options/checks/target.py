"""Owns the checks of `module:attribute`, without importing user code. Runs in whoever starts a cluster."""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from eggcluster.options.cluster_options import ResolvedOptions
from eggcluster.options.sources import Naming
from eggcluster.wording import near_miss, shown

if TYPE_CHECKING:
    import ast

    from eggcluster.options.checks.binding import Bindings
    from eggcluster.options.checks.module_source import Absent, Found

    Judge = Callable[[ast.AST, Bindings], str]


WANTS_APP = "name an ASGI or WSGI callable, or an eggcluster.Application"
WANTS_FACTORY = "name a callable without parameters that builds the application"
WANTS_AGENT = "name an eggcluster.Agent"


def check_app(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """The target is there, and is not plainly something that serves no requests."""
    judge = _judge_factory if options.factory else _judge_app
    for problem in _check_target(name("app"), options.app, options.base_dir, judge):
        yield problem if "app" in options.named else f"{problem}; name yours as module:attribute"


def check_agent(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """The agent's target is there, and is not plainly something else."""
    if options.agent is None:
        return
    for problem in _check_target(name("agent"), options.agent, options.base_dir, _judge_agent):
        yield problem if "agent" in options.named else f"{problem}; if there is none, say {name('no_agent')}"


def check_framework(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """The module is there and defines both classes."""
    if options.framework == "eggcluster":
        return
    names, why = _names_of(options.framework, options.base_dir)
    if names is not None and not names.is_dynamic:
        missing = [f"`{each}`" for each in ("Application", "Agent") if each not in names.names]
        why = f"does not define {' and '.join(missing)}; name a module that defines both" if missing else ""
    if why:
        yield f"{name('framework')}: {shown(options.framework)} {why}"


def check_require(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Each module is there."""
    from eggcluster.options.checks.module_source import Found, find_module

    for module in options.require:
        found = find_module(module, options.base_dir)
        if not isinstance(found, Found):
            yield f"{name('require')}: {shown(module)} {_not_there(found, options.base_dir)}"


def _check_target(name: str, target: str, base_dir: str, judge: "Judge") -> Iterator[str]:
    module, _, path = target.partition(":")
    names, why = _names_of(module, base_dir)
    if names is not None:
        why = _judge_attribute(names, module, path, judge, base_dir)
    if why:
        yield f"{name}: {shown(target)} {why}"


def _names_of(module: str, base_dir: str) -> "tuple[Bindings | None, str]":
    """The names of a module, or why it has none; neither, if nothing can be said of it."""
    from eggcluster.options.checks.binding import bindings
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
            return bindings(file.read()), ""
    except OSError as error:
        return None, f"cannot be read: {found.source}: {error.strerror}"


def _judge_attribute(names: "Bindings", module: str, path: str, judge: "Judge", base_dir: str) -> str:
    from eggcluster.options.checks.module_source import Found, find_module

    first, _, rest = path.partition(".")
    if first in names.names:
        node = names.only(first)
        return judge(node, names) if node is not None and not rest else ""
    if names.is_dynamic or isinstance(find_module(f"{module}.{first}", base_dir), Found):
        return ""
    public = [each for each in names.names if not each.startswith("__")]
    return f'is not there: module "{module}" has no attribute "{first}"{near_miss(first, public)}'


def _judge_app(node: "ast.AST", names: "Bindings") -> str:
    import ast

    from eggcluster.options.checks.binding import plainly, required_parameters

    if what := plainly(node, names):
        return f"is {what}; {WANTS_APP}"
    count = required_parameters(node)
    # One parameter: the first half of ASGI 2. None: a factory, which the worker can tell better.
    if count is None or count in (0, 1, 3) or (count == 2 and isinstance(node, ast.FunctionDef)):
        return ""
    kind = "an async function" if isinstance(node, ast.AsyncFunctionDef) else "a function"
    return f"is {kind} of {count} parameters; ASGI has 3 (scope, receive, send), WSGI 2"


def _judge_factory(node: "ast.AST", names: "Bindings") -> str:
    from eggcluster.options.checks.binding import plainly, required_parameters

    if what := plainly(node, names):
        return f"is {what}; {WANTS_FACTORY}"
    count = required_parameters(node)
    return f"needs {count} arguments; {WANTS_FACTORY}" if count else ""


def _judge_agent(node: "ast.AST", names: "Bindings") -> str:
    import ast

    from eggcluster.options.checks.binding import plainly

    what = plainly(node, names)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.decorator_list:
        what = "a class" if isinstance(node, ast.ClassDef) else "a function"
    return f"is {what}; {WANTS_AGENT}" if what else ""


def _not_there(absent: "Absent", base_dir: str) -> str:
    hint = near_miss(absent.name, absent.neighbours)
    if absent.name.endswith(".py"):
        hint = f'; a module is named without ".py": "{absent.name[:-3]}"'
    return f'is not there: no module "{absent.name}" in {base_dir} or on Python\'s path{hint}'


def _bare_directory(module: str, found: "Found") -> str:
    files = {
        entry[:-3]
        for place in found.locations
        if os.path.isdir(place)
        for entry in os.listdir(place)
        if entry.endswith(".py")
    }
    example = f', for instance "{module}.{min(files)}"' if files else ""
    return f'is not there: "{module}" is a directory without __init__.py; name a module in it{example}'
