"""Interpreter mode: each worker is a thread with an interpreter of its own. Runs in the master.

So each has its own GIL and modules. It needs Python 3.14 or later (concurrent.interpreters, PEP 734).
"""

import sys
from collections.abc import Sequence

from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.modes.thread import ENTRY, ThreadWorker

# Only plain values can be handed over: numbers, and the module path, which this interpreter may have changed.
MAIN = f"""
import sys
sys.path[:] = path
from {ENTRY} import live
result.put(int(live(channel, signals, shares_modules=False)))
"""


def start_by_interpreters(spec: WorkerSpec, fds: Sequence[int]) -> "InterpreterWorker":
    """Start a worker in a new interpreter that gets copies of `fds`; OSError if the system refuses."""
    return InterpreterWorker(spec, fds)


class InterpreterWorker(ThreadWorker):
    """A worker that is a thread with an interpreter of its own."""

    def run(self, channel: int, signals: int) -> int:
        from concurrent import interpreters  # type: ignore[attr-defined, unused-ignore]  # as of 3.14

        result = interpreters.create_queue()
        interpreter = interpreters.create()
        try:
            interpreter.prepare_main(path=tuple(sys.path), channel=channel, signals=signals, result=result)
            interpreter.exec(MAIN)
            code: int = result.get_nowait()  # before the interpreter is closed, which ends its objects
        finally:
            interpreter.close()  # waits for the threads in it
        return code
