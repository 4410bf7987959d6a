"""The start of a worker in every start mode: module path, event loop, lifecycle. Runs in agent and app workers.

It is separate from `worker_process.py`, which imports what a subinterpreter cannot load (faulthandler).
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable

from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.logs import escape_own_lines
from eggcluster.model.messages.role import Role
from eggcluster.worker.context.worker_context import WorkerContext
from eggcluster.worker.lifecycle.close_request import CloseRequest
from eggcluster.worker.lifecycle.lifecycle import Lifecycle


def load_event_loop() -> None:
    """Import what `new_event_loop` needs, so that workers that are forked from this process share it."""
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: F401


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop of uvloop, or of asyncio where uvloop cannot be loaded, as in a subinterpreter."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def add_base_dir(spec: WorkerSpec) -> None:
    """Put the base directory first on the module path: the application's modules are there."""
    if spec.options.base_dir not in sys.path:
        sys.path.insert(0, spec.options.base_dir)


def lifecycle_for(
    spec: WorkerSpec, sock: socket.socket, context: WorkerContext, close_request: CloseRequest
) -> Lifecycle:
    """Return the lifecycle of the role that `spec` names. A worker imports only what its own role needs."""
    escape_own_lines()
    lifecycle: Callable[..., Lifecycle]
    if spec.role == Role.AGENT.value:
        from eggcluster.worker.agent.agent_lifecycle import AgentLifecycle as lifecycle
    else:
        from eggcluster.worker.app.app_lifecycle import AppLifecycle as lifecycle
    return lifecycle(spec, sock, context, close_request)
