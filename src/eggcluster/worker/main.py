"""A worker process from its first line to its exit code. Runs in the agent and in the app workers."""

import asyncio
import faulthandler
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

import setproctitle
import uvloop

from eggcluster.ipc.boot_order import BootOrder
from eggcluster.ipc.handshake import read_first
from eggcluster.kernel.inherited_signals import reset_inherited_signals
from eggcluster.kernel.standard_streams import open_standard_streams
from eggcluster.model.role import Role
from eggcluster.worker.close_order import CloseOrder
from eggcluster.worker.current import become
from eggcluster.worker.life import Life
from eggcluster.worker.lifeline import hold_lifeline


def main(began: float) -> NoReturn:
    """Run the worker whose channel's file descriptor is the first argument. Only process mode calls it so.

    `began` is the instant of CLOCK_MONOTONIC of its first instruction.
    """
    close_order = CloseOrder()
    close_order.take()
    reset_inherited_signals()
    open_standard_streams()
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    order = read_first(sock, BootOrder)
    # SIGABRT, which the master sends to one that hangs, and every crash: the stacks are its last words.
    faulthandler.enable(order.record_fd, all_threads=True)
    hold_lifeline(order.master, order.speaker)
    _take_identity(order)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = _life(order, sock, close_order).run(runner, began)
    sys.exit(code)


def _take_identity(order: BootOrder) -> None:
    """Title and module path: what the process must have before any application code is imported."""
    title = "egg-agent" if order.role == Role.AGENT.value else f"egg-app#{order.slot}"
    setproctitle.setproctitle(f"{title}: {order.options.name}")
    if order.options.base_dir not in sys.path:
        sys.path.insert(0, order.options.base_dir)


def _life(order: BootOrder, sock: socket.socket, close_order: CloseOrder) -> Life:
    messenger = become(Role(order.role)).messenger
    life: Callable[..., Life]
    if order.role == Role.AGENT.value:
        from eggcluster.worker.agent_life import AgentLife as life
    else:
        from eggcluster.worker.app_life import AppLife as life
    return life(order, sock, messenger, close_order)
