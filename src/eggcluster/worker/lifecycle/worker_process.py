"""A worker process from its first line to its exit code. Runs in the agent and in the app workers."""

import asyncio
import faulthandler
import os
import socket
import sys
from typing import NoReturn

import setproctitle

from eggcluster.ipc.worker_spec import WorkerSpec, read_first
from eggcluster.kernel.descriptors import open_standard_streams
from eggcluster.kernel.process_end import allow_open_transports
from eggcluster.kernel.signal_actions import reset_inherited_signals
from eggcluster.model.messages.role import Role
from eggcluster.worker.context.current import become_worker
from eggcluster.worker.lifecycle.close_request import CloseSignals
from eggcluster.worker.lifecycle.lifeline import hold_lifeline
from eggcluster.worker.lifecycle.startup import add_base_dir, lifecycle_for, new_event_loop


def main(began: float) -> NoReturn:
    """Run the worker whose channel's file descriptor is the first argument, as process mode starts it.

    `began` is the instant of CLOCK_MONOTONIC of its first instruction.
    """
    close_request = CloseSignals()
    close_request.take()
    reset_inherited_signals()
    open_standard_streams()
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    spec = read_first(sock, WorkerSpec)
    for fd in (spec.heartbeat_fd, *spec.fds):  # not inherited by what the application starts, even during its import
        os.set_inheritable(fd, False)
    # On SIGABRT, which the master sends to a hung worker, and at every crash: the stacks are its final message.
    faulthandler.enable(spec.heartbeat_fd, all_threads=True)
    hold_lifeline(spec.master_pid, spec.speaker)
    _take_title(spec)
    add_base_dir(spec)
    context = become_worker(Role(spec.role))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        close_request.follow(runner.get_loop())
        try:
            code = lifecycle_for(spec, sock, context, close_request).run(runner, began)
        finally:
            allow_open_transports()
    sys.exit(code)


def _take_title(spec: WorkerSpec) -> None:
    title = "egg-agent" if spec.role == Role.AGENT.value else f"egg-app#{spec.slot}"
    setproctitle.setproctitle(f"{title}: {spec.options.name}")
