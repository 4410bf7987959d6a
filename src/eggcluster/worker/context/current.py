"""Which worker runs here, for code that only knows `from eggcluster import messenger`. Runs anywhere.

A worker has a process of its own, or shares it with others as a thread. Outside of a cluster `messenger` exists too,
so that modules that register handlers can be imported by tests and tools; sending then raises MessengerClosed.
"""

from typing import TYPE_CHECKING, Any

from eggcluster.ipc.messenger import Messenger
from eggcluster.kernel.per_worker import PerWorker
from eggcluster.model.messages.role import Role
from eggcluster.worker.context.worker_context import WorkerContext
from eggcluster.worker.context.worker_proxy import WorkerProxy

if TYPE_CHECKING:
    messenger: Messenger


_context = PerWorker("eggcluster.place", WorkerContext())


def current_context() -> WorkerContext:
    """The place of the worker on whose behalf this runs."""
    return _context.get()


def become_worker(role: Role) -> WorkerContext:
    """This process is a worker of that role from now on, and nothing else."""
    context = _context.default
    context.take_role(role)
    return context


def run_as_worker(context: WorkerContext) -> None:
    """This thread is a worker from now on, one of several in its process."""
    _context.bind(context)
    _context.default.messenger.why_closed = (
        "this thread runs in no worker's name: start it with contextvars.copy_context().run, or by asyncio.to_thread"
    )


def messenger_for(role: Role) -> Messenger:
    """The messenger of an `Agent` or `Application` object: this worker's own where it has that role.

    An app's module may import the agent's and the other way round; the object of the other role then gets a
    messenger of its own, whose handlers nobody calls.
    """
    if _owns_process():
        return current_context().messenger_for_role(role)
    return WorkerProxy(lambda: current_context().messenger_for_role(role))  # type: ignore[return-value]  # it is one in all but its class


def bound_sharing(find: Any) -> Any:
    """What `find` gives of a worker's sharing, for a module to keep. Each worker that shares the module gets its own,
    from its boot on."""
    found = find(current_context().sharing)
    if _owns_process():
        return found
    current_context().declare(lambda context: find(context.sharing))
    return WorkerProxy(lambda: find(current_context().sharing))


def _owns_process() -> bool:
    """Then nobody has to be asked each time whose turn it is."""
    return _context.default.role is not None


def __getattr__(name: str) -> Any:
    """`messenger`, PEP 562: not before it is known whether this process is a worker's own."""
    if name != "messenger":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return current_context().messenger if _owns_process() else WorkerProxy(lambda: current_context().messenger)
