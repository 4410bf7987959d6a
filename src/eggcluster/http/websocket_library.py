"""Finds the library websockets, even where a module of the application has its name. Runs in the app workers.

The folder of the application comes first on the path, so a `websockets.py` beside `app.py` hides the library. That file
stays what the application imports. The library then gets another name here; its own imports are relative.
"""

import importlib
import os
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec, module_from_spec, spec_from_file_location

NAME = "websockets"
ALIAS = "eggcluster_websockets"


def import_library() -> str:
    """Import the library; return the name under which it and its modules can be imported. ImportError if it fails."""
    home = _home()
    if home is None or _is_found_at(home):
        importlib.import_module(NAME)
        return NAME
    if ALIAS not in sys.modules:
        spec = spec_from_file_location(ALIAS, home, submodule_search_locations=[os.path.dirname(home)])
        _load(spec)
    return ALIAS


def _home() -> str | None:
    """Return the first file of the library that is installed; None if it has no such file, as in an archive."""
    try:
        home = str(distribution(NAME).locate_file(os.path.join(NAME, "__init__.py")))
    except PackageNotFoundError:
        return None
    return home if os.path.isfile(home) else None


def _is_found_at(home: str) -> bool:
    """Return whether its name means the library; nothing is imported for that."""
    try:
        spec = find_spec(NAME)
    except ValueError:  # a module that was made by hand
        return False
    origin = spec.origin if spec is not None else None
    return origin is not None and os.path.isfile(origin) and os.path.samefile(origin, home)


def _load(spec: ModuleSpec | None) -> None:
    if spec is None or spec.loader is None:
        raise ImportError(f"the library {NAME} cannot be imported as {ALIAS}")
    module = sys.modules[spec.name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
