"""Importing uvicorn without its command line. Runs in the app workers.

`import uvicorn` loads uvicorn.main, and with it click, multiprocessing and its supervisors: 12 ms of each worker's
start and 2.3 MB of its memory, for what a worker never calls. A stand-in is there while the package is imported; what
an application asks of it later is the real thing.
"""

import importlib
import sys
import threading
from types import ModuleType
from typing import Any

_importing = threading.Lock()  # workers that are threads boot at the same time


def import_uvicorn() -> None:
    """Import the package `uvicorn`; does nothing where it has been imported already."""
    with _importing:
        if "uvicorn" in sys.modules:
            return
        sys.modules["uvicorn.main"] = _StandIn("uvicorn.main")
        try:
            importlib.import_module("uvicorn")
        finally:
            del sys.modules["uvicorn.main"]


class _StandIn(ModuleType):
    """Has every function of uvicorn.main, each of which imports the real one when it is called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "Server":
            return importlib.import_module("uvicorn.server").Server

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module("uvicorn.main"), name)(*args, **kwargs)

        return call
