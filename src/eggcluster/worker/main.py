"""A worker process from its first line to its exit code. Runs in the agent and in the app workers."""

import asyncio
import faulthandler
import os
import socket
import sys
from typing import NoReturn

import setproctitle

from eggcluster.ipc.boot_order import BootOrder
from eggcluster.ipc.handshake import read_first
from eggcluster.kernel.inherited_signals import reset_inherited_signals
from eggcluster.kernel.standard_streams import open_standard_streams
from eggcluster.model.role import Role
from eggcluster.worker.close_signals import CloseSignals
from eggcluster.worker.current import become
from eggcluster.worker.entrance import find_application, life_of
from eggcluster.worker.event_loop import new_event_loop
from eggcluster.worker.lifeline import hold_lifeline


def main(began: float) -> NoReturn:
    """Run the worker whose channel's file descriptor is the first argument. Only process mode calls it so.

    `began` is the instant of CLOCK_MONOTONIC of its first instruction.
    """
    close_order = CloseSignals()
    close_order.take()
    reset_inherited_signals()
    open_standard_streams()
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    order = read_first(sock, BootOrder)
    for fd in (order.record_fd, *order.fds):  # not for what the application starts, even while it is being imported
        os.set_inheritable(fd, False)
    # SIGABRT, which the master sends to one that hangs, and every crash: the stacks are its last words.
    faulthandler.enable(order.record_fd, all_threads=True)
    hold_lifeline(order.master, order.speaker)
    _take_title(order)
    find_application(order)
    place = become(Role(order.role))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        code = life_of(order, sock, place, close_order).run(runner, began)
    sys.exit(code)


def _take_title(order: BootOrder) -> None:
    title = "egg-agent" if order.role == Role.AGENT.value else f"egg-app#{order.slot}"
    setproctitle.setproctitle(f"{title}: {order.options.name}")
