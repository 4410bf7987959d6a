"""The context of the running worker, for code that only says `from eggcluster import messenger`. Runs everywhere.

A worker has a process of its own, or shares one with others as a thread. `messenger` exists outside of a cluster, too,
so that tests and tools can import modules that register handlers; sending raises MessengerClosed there.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from eggcluster.ipc.messenger import NO_CLUSTER, Messenger
from eggcluster.kernel.per_worker import PerWorker
from eggcluster.model.messages.role import Role
from eggcluster.worker.context.declarations import SharingUse
from eggcluster.worker.context.worker_context import WorkerContext
from eggcluster.worker.context.worker_proxy import WorkerProxy

if TYPE_CHECKING:
    from eggcluster.worker.sharing.shared import Shared
    from eggcluster.worker.sharing.sharing import Sharing

    messenger: Messenger


NO_WORKER_THREAD = (
    "this thread belongs to no worker: start it with contextvars.copy_context().run, or with asyncio.to_thread"
)

IN_TEMPLATE = "the application is imported in the template of --preload, which has no messenger: send in on_start"

_context = PerWorker("eggcluster.context", WorkerContext())
_worker_threads: list[WorkerContext] = []
"""The contexts of the workers that are threads of this process."""


def current_context() -> WorkerContext:
    """Return the context of the worker that the running code belongs to."""
    return _context.get()


def become_template(secret: bytes) -> WorkerContext:
    """Make this process one that imports the application for app workers, which are forked from it. `secret` is their
    cluster's: what the import derives from it holds for all of them."""
    context = _context.default
    context.secret = secret
    context.take_role(Role.APP)
    context.is_template = True
    context.messenger.why_closed = IN_TEMPLATE
    return context


def become_worker(role: Role) -> WorkerContext:
    """Make this process a worker of that role, for the rest of its life."""
    context = _context.default
    context.is_template = False
    context.messenger.why_closed = NO_CLUSTER
    context.take_role(role)
    context.worker_id = os.getpid()  # not the pid of the process that imported this module, and then forked
    return context


@contextlib.contextmanager
def use_outside(context: WorkerContext) -> Iterator[None]:
    """Let the code that belongs to no worker find `context`, for the time of a `with` block. A unit test's context does
    that. Threads that are workers keep their own."""
    before, _context.default = _context.default, context
    try:
        yield
    finally:
        _context.default = before


def run_as_worker(context: WorkerContext) -> None:
    """Make this thread a worker, one of several in its process, until `leave_worker`."""
    _context.bind(context)
    _worker_threads.append(context)
    _context.default.messenger.why_closed = NO_WORKER_THREAD


def leave_worker(context: WorkerContext) -> None:
    """End what `run_as_worker` began.

    The thread keeps an empty context: the one that it was bound to outlives it, and so would all that belongs to a
    full one.
    """
    _context.bind(WorkerContext(context.role))
    _worker_threads.remove(context)
    if not _worker_threads:
        _context.default.messenger.why_closed = NO_CLUSTER


def messenger_for(role: Role) -> Messenger:
    """Return the messenger of an `Agent` or `Application` object: this worker's own if it has that role.

    The application's module may import the agent's, and the other way round. The object of the other role then gets a
    messenger of its own, whose handlers are never called.
    """
    if _owns_process():
        return current_context().messenger_for_role(role)
    return WorkerProxy(lambda: current_context().messenger_for_role(role))  # type: ignore[return-value]  # it stands for one


def sharing_for_module(find: Any) -> Any:
    """Return what `find` takes from the worker's sharing, for a module to keep. Each worker that shares the module has
    its own, from its boot on."""
    found = find(current_context().sharing)
    if _owns_process() and not current_context().is_template:
        return found
    current_context().declare_sharing(SharingUse(find))
    return WorkerProxy(lambda: find(current_context().sharing))


def shared_dictionary() -> "Shared":
    """Return the shared dictionary, as `app.shared` does, for code that knows no `app`. May be called often."""
    shared: Shared = sharing_for_module(_shared_of)
    return shared


def _shared_of(sharing: "Sharing") -> "Shared":
    return sharing.shared


def _owns_process() -> bool:
    """Return whether this process has one worker only: then its context needs no lookup."""
    return _context.default.role is not None


def __getattr__(name: str) -> Any:
    """PEP 562: `messenger`, once it is known whether this process has one worker only."""
    if name != "messenger":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return current_context().messenger if _owns_process() else WorkerProxy(lambda: current_context().messenger)
