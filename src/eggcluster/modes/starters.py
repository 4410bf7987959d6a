"""The start modes by name: how each starts a worker, and how the log describes it. Runs in the master."""

import sys
from collections.abc import Callable, Sequence

from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.modes.worker_handle import WorkerHandle

Starter = Callable[[WorkerSpec, Sequence[int]], WorkerHandle]


def in_words(start_mode: str) -> str:
    """Return what the workers are, for the log; for threads, also whether they run in parallel."""
    if start_mode == "interpreter":
        return " in interpreters of their own"
    if start_mode == "thread":
        # Python 3.13 and later can tell; earlier versions always have a GIL.
        one_at_a_time = getattr(sys, "_is_gil_enabled", lambda: True)()
        return " as threads, of which the GIL lets one run at a time" if one_at_a_time else " as threads"
    return ""


def starter_of(start_mode: str) -> Starter:
    """Return the function that starts a worker in that mode, from its spec and the file descriptors that it gets. The
    function raises OSError if the system refuses. Only the mode in use is loaded."""
    if start_mode == "thread":
        from eggcluster.modes.thread import start_by_worker_threads

        return start_by_worker_threads
    if start_mode == "interpreter":
        from eggcluster.modes.interpreter import start_by_interpreters

        return start_by_interpreters
    assert start_mode == "process"
    from eggcluster.modes.process import start_by_process

    return start_by_process
