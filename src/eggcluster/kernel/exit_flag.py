"""Whether the worker is closing, where libraries look for it: at the owner of the SIGTERM handler. Runs everywhere.

sse-starlette, and applications that copied its way, read `signal.getsignal(signal.SIGTERM).__self__.should_exit`: with
uvicorn that is the server. A worker that is a process owns its handler. Threads share the master's, whose owner answers
for the worker that asks.
"""

from typing import Protocol

from eggcluster.kernel.per_worker import PerWorker


class ExitFlag(Protocol):
    """An object that knows whether its worker is closing."""

    @property
    def should_exit(self) -> bool: ...


class NeverExits:
    """The flag where no worker runs."""

    should_exit = False


exit_flag: PerWorker[ExitFlag] = PerWorker("eggcluster.exit_flag", NeverExits())
