"""A worker process from its first line to its exit code. Runs in the agent and in the app workers."""

import asyncio
import faulthandler
import os
import socket
import sys
from typing import NoReturn

import setproctitle

from eggcluster.ipc.worker_spec import WorkerSpec, read_first, with_copies
from eggcluster.kernel.descriptors import open_standard_streams
from eggcluster.kernel.process_end import allow_open_transports
from eggcluster.kernel.signal_actions import reset_inherited_signals
from eggcluster.model.lives.phase import ExitCode
from eggcluster.model.messages.role import Role
from eggcluster.worker.context.current import become_worker
from eggcluster.worker.lifecycle.close_request import CloseSignals
from eggcluster.worker.lifecycle.lifeline import hold_lifeline
from eggcluster.worker.lifecycle.startup import add_base_dir, lifecycle_for, new_event_loop


def main(began: float) -> NoReturn:
    """Run the worker whose channel's file descriptor is the first argument, as process mode starts a fresh interpreter.

    `began` is the instant of CLOCK_MONOTONIC of its first instruction.
    """
    run_worker(int(sys.argv[1]), {}, began)


def run_worker(channel: int, copies: dict[int, int], began: float) -> NoReturn:
    """Run the worker with that file descriptor as its channel, and exit.

    `copies` has this process's number for each file descriptor that the spec names; empty if the numbers are the same.
    The spec comes only when the master knows this process, which then is its child.
    """
    close_request = CloseSignals()
    close_request.take()
    reset_inherited_signals()
    open_standard_streams()
    sock = socket.socket(fileno=channel)
    sock.set_inheritable(False)
    spec = _read_spec(sock, copies)
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


def _read_spec(sock: socket.socket, copies: dict[int, int]) -> WorkerSpec:
    if not copies:
        return read_first(sock, WorkerSpec)
    try:
        return with_copies(read_first(sock, WorkerSpec), copies)
    except SystemExit:  # the master vanished before it knew this fork; or it ended it, and does not read the exit code
        sys.exit(ExitCode.MASTER_VANISHED)


def _take_title(spec: WorkerSpec) -> None:
    title = "egg-agent" if spec.role == Role.AGENT.value else f"egg-app#{spec.slot}"
    setproctitle.setproctitle(f"{title}: {spec.options.name}")
