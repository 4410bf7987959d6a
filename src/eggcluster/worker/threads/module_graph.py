"""The modules that a module imports, directly or through others. Runs in workers that share modules."""

import importlib.util
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

_OURS = __name__.partition(".")[0]
_imports: WeakKeyDictionary[ModuleType, frozenset[str]] = WeakKeyDictionary()  # of an application's own modules


def reachable_modules(root: ModuleType, base_dir: str) -> Iterator[str]:
    """Yield the names of `root` and of every module that it imports from, directly or through others.

    A module's namespace shows its imports, except for plain values (`from settings import LIMIT`). So the source of the
    application's own modules, which lie in `base_dir`, is read, too.
    """
    seen: set[str] = set()
    waiting = [root]
    while waiting:
        module = waiting.pop()
        if module.__name__ in seen or module.__name__.partition(".")[0] == _OURS:
            continue
        seen.add(module.__name__)
        yield module.__name__
        waiting += [other for value in list(vars(module).values()) if (other := _module_of(value)) is not None]
        if lies_in(module, base_dir):
            waiting += [sys.modules[name] for name in _imported_by(module) if name in sys.modules]


def lies_in(module: ModuleType, base_dir: str) -> bool:
    """Return whether the module is the application's own."""
    path = getattr(module, "__file__", None)
    if not isinstance(path, str) or "/site-packages/" in path:
        return False
    return path.startswith(base_dir.rstrip("/") + "/")


def _module_of(value: Any) -> ModuleType | None:
    if isinstance(value, ModuleType):
        return value
    # Not an object's own `__module__`: a lazy object may do anything when an attribute is read.
    named = value if isinstance(value, type | FunctionType) else type(value)
    return sys.modules.get(named.__module__)


def _imported_by(module: ModuleType) -> frozenset[str]:
    """Return the names in the import statements of the module's source; no names if it has no source."""
    found = _imports.get(module)
    if found is None:
        try:
            found = frozenset(_read_imports(module))
        except (AttributeError, ImportError, OSError, SyntaxError, ValueError):
            found = frozenset()
        _imports[module] = found
    return found


def _read_imports(module: ModuleType) -> Iterator[str]:
    import ast  # needed only where workers share a process

    source = module.__loader__.get_source(module.__name__)  # type: ignore[union-attr]  # AttributeError is expected
    for node in ast.walk(ast.parse(source or "")):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), module.__package__ or "")
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)
