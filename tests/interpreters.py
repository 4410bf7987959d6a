"""What a subinterpreter cannot load, and what a worker needs there; for tests that do without in other ways, too."""

import importlib.util
import pkgutil
from pathlib import Path

import eggcluster

EXTENSIONS = ("msgspec", "uvloop", "httptools", "psutil")
# Run by the master, the command line or tests, or only by a worker that has a process to itself.
NOT_THERE = (
    "cli",
    "cluster",
    "runtime",
    "master",
    "modes",
    "file_watcher",
    "ipc.file_watch",
    "template",
    "testing",
    "__main__",
    "worker.__main__",
    "worker.lifecycle.worker_process",
)

# Shadows an extension module for processes that run a worker, or are forked to one; everybody else gets the real one.
SHADOW = """
import importlib, pathlib, sys
if {"eggcluster.worker", "eggcluster.template"} & {*sys.orig_argv}:
    raise ImportError(f"module {__name__} does not support loading in subinterpreters")
sys.path.remove(str(pathlib.Path(__file__).parent))
del sys.modules[__name__]
importlib.import_module(__name__)
"""


def worker_modules() -> list[str]:
    """All modules of ours that a worker may import, whatever the start mode."""
    names = [
        each.name.removeprefix("eggcluster.") for each in pkgutil.walk_packages(eggcluster.__path__, "eggcluster.")
    ]
    there = [name for name in names if not any(name == each or name.startswith(f"{each}.") for each in NOT_THERE)]
    return [f"eggcluster.{name}" for name in there]


def shadows(folder: Path) -> str:
    """A PYTHONPATH with which workers that are processes have no extension modules either."""
    folder.mkdir()
    for name in EXTENSIONS:
        (folder / f"{name}.py").write_text(SHADOW)
    origin = importlib.util.find_spec("eggcluster")
    assert origin is not None
    assert origin.origin is not None
    return f"{folder}:{Path(origin.origin).parent.parent}"
