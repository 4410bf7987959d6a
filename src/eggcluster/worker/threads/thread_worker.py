"""The life of a worker that is a thread of the master's process, with or without its own interpreter. Runs in it."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.ipc.worker_spec import WorkerSpec, read_first
from eggcluster.kernel.exit_flag import NeverExits, exit_flag
from eggcluster.kernel.inherited_sockets import close_untaken, hand_down
from eggcluster.kernel.process_end import allow_open_transports
from eggcluster.kernel.threads import accept_daemons
from eggcluster.logs import set_speaker
from eggcluster.model.lives.phase import ExitCode
from eggcluster.model.messages.role import Role
from eggcluster.worker.context.current import become_worker, leave_worker, run_as_worker
from eggcluster.worker.context.worker_context import WorkerContext
from eggcluster.worker.lifecycle.close_request import CloseRequest
from eggcluster.worker.lifecycle.startup import add_base_dir, lifecycle_for, new_event_loop
from eggcluster.worker.threads.shared_modules import ThreadWorkerContext
from eggcluster.worker.threads.thread_signals import ThreadSignals

_logger = logging.getLogger("eggcluster.worker")


def live(channel_fd: int, signals_fd: int, *, shares_modules: bool) -> int:
    """Run the worker that the channel's first frame describes; return its exit code. Raise nothing, because other
    workers live in the same process.

    With `shares_modules`, other workers use the same modules; otherwise the worker has this interpreter to itself.
    """
    with (
        socket.socket(fileno=channel_fd) as sock,
        socket.socket(fileno=signals_fd) as signals,
        contextlib.ExitStack() as at_end,
    ):
        return _exit_code(partial(_live, sock, signals, shares_modules, at_end))


def _live(sock: socket.socket, signals: socket.socket, shares_modules: bool, at_end: contextlib.ExitStack) -> int:
    began = time.monotonic()
    spec = read_first(sock, WorkerSpec)
    at_end.callback(os.close, spec.heartbeat_fd)
    hand_down(spec.fds)
    # The end of a process closes its connections; here only the garbage collector does.
    at_end.callback(gc.collect)
    at_end.callback(close_untaken, spec.fds)
    at_end.callback(asyncio.set_event_loop, None)  # the closed loop still refers to its callbacks, and so to everything
    context = _context(spec, shares_modules, at_end)
    set_speaker(spec.speaker, context.worker_id, spec.log_level)  # before any call that keeps the context
    close_request = CloseRequest(threading.get_ident())
    at_end.callback(close_request.end)
    exit_flag.bind(close_request)
    at_end.callback(exit_flag.bind, NeverExits())
    at_end.enter_context(contextlib.closing(ThreadSignals(signals, close_request, HeartbeatPage(spec.heartbeat_fd))))
    with asyncio.Runner(loop_factory=_worker_loop) as runner:
        try:
            return lifecycle_for(spec, sock, context, close_request).run(runner, began)
        finally:
            allow_open_transports()  # in the whole process


def _context(spec: WorkerSpec, shares_modules: bool, at_end: contextlib.ExitStack) -> WorkerContext:
    role = Role(spec.role)
    if not shares_modules:
        accept_daemons()
        add_base_dir(spec)
        own = become_worker(role)
        own.worker_id = threading.get_native_id()
        return own
    context = ThreadWorkerContext(role, spec)
    run_as_worker(context)
    at_end.callback(leave_worker, context)
    at_end.callback(context.leave)
    return context


def _worker_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose executors' threads belong to the worker, too: `asyncio.to_thread` passes the context
    on by itself, `run_in_executor` does not."""
    from concurrent.futures import ThreadPoolExecutor

    loop = new_event_loop()
    run = loop.run_in_executor

    def run_in_executor(executor: Any, function: Callable[..., Any], *args: Any) -> Any:
        if executor is None or isinstance(executor, ThreadPoolExecutor):  # a context cannot go to another process
            return run(executor, contextvars.copy_context().run, function, *args)
        return run(executor, function, *args)

    loop.run_in_executor = run_in_executor  # type: ignore[assignment, method-assign]  # not of asyncio alone
    return loop


def _exit_code(lifecycle: Callable[[], int]) -> int:
    """Return the lifecycle's exit code. For what it raises, return the code that Python would give to a process:
    sys.exit(3), sys.exit("a text"), sys.exit()."""
    try:
        return lifecycle()
    except SystemExit as end:
        if end.code is None:
            return ExitCode.CLOSED
        if isinstance(end.code, int):
            return end.code & 0xFF
        print(end.code, file=sys.stderr)  # noqa: T201
    except BaseException:
        _logger.exception("the worker was ended by an exception")
    return ExitCode.FAILED
