"""Which mode starts a worker how. Runs in the master."""

import sys
from collections.abc import Callable, Sequence

from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.modes.worker_handle import WorkerHandle

Starter = Callable[[WorkerSpec, Sequence[int]], WorkerHandle]


def in_words(start_mode: str) -> str:
    """What the workers are, for the log; threads also say whether they run in parallel."""
    if start_mode == "interpreter":
        return " in interpreters of their own"
    if start_mode == "thread":
        # Python 3.13 and later can tell; those before always have it.
        one_at_a_time = getattr(sys, "_is_gil_enabled", lambda: True)()
        return " as threads, of which the GIL lets one run at a time" if one_at_a_time else " as threads"
    return ""


def starter_of(start_mode: str) -> Starter:
    """How that mode starts a worker: with its order, and the file descriptors that it gets. OSError where the system
    refuses. A mode is loaded where it is used."""
    if start_mode == "thread":
        from eggcluster.modes.thread import start_by_worker_threads

        return start_by_worker_threads
    if start_mode == "interpreter":
        from eggcluster.modes.interpreter import start_by_interpreters

        return start_by_interpreters
    from eggcluster.modes.process import start_by_process

    return start_by_process
