"""A worker process from its first line to its exit code. Runs in the agent and in the app workers."""

import asyncio
import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import setproctitle
import uvloop

from eggcluster.ipc.boot_order import BootOrder
from eggcluster.ipc.handshake import read_first
from eggcluster.kernel.standard_streams import open_standard_streams
from eggcluster.log_handler import LogHandler
from eggcluster.logs import configure_logs
from eggcluster.model.role import Role
from eggcluster.worker.current import become
from eggcluster.worker.life import CLOSE_SIGNALS, LeaveEarly, Life
from eggcluster.worker.lifeline import hold_lifeline


def main() -> NoReturn:
    """Run the worker whose channel's file descriptor is the first argument. Only process mode calls it so."""
    open_standard_streams()
    for number in CLOSE_SIGNALS:
        signal.signal(number, _leave_early)
    os.register_at_fork(after_in_child=_forget_signals)
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    order = read_first(sock, BootOrder)
    speaker = "agent_worker" if order.role == Role.AGENT.value else f"app_worker#{order.slot}"
    # SIGABRT, which the master sends to one that hangs, and every crash: the stacks are its last words.
    faulthandler.enable(order.record_fd, all_threads=True)
    hold_lifeline(order.master, speaker)
    log = _take_identity(order, speaker)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        log.run_in(runner.get_loop())
        code = _life(order, sock).run(runner)
    sys.exit(code)


def _take_identity(order: BootOrder, speaker: str) -> LogHandler:
    """Title, log, module path: what the process must have before any application code is imported."""
    options = order.options
    agent = order.role == Role.AGENT.value
    title = "egg-agent" if agent else f"egg-app#{order.slot}"
    setproctitle.setproctitle(f"{title}: {options.name}")
    log = configure_logs(options, speaker, options.agent_log_level if agent else options.app_log_level)
    if options.base_dir not in sys.path:
        sys.path.insert(0, options.base_dir)
    return log


def _life(order: BootOrder, sock: socket.socket) -> Life:
    messenger = become(Role(order.role))
    life: Callable[..., Life]
    if order.role == Role.AGENT.value:
        from eggcluster.worker.agent_life import AgentLife as life
    else:
        from eggcluster.worker.app_life import AppLife as life
    return life(order, sock, messenger)


def _leave_early(number: int, frame: Any) -> NoReturn:
    raise LeaveEarly(0)


def _forget_signals() -> None:
    """In a process that the application forks. It shares the socket on which signals wake this worker's loop: a
    SIGTERM meant for it alone would close the worker, and never reach it."""
    signal.set_wakeup_fd(-1)
    for number in CLOSE_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
