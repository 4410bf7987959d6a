"""A worker that lives in the master's process, as a thread or in an interpreter of its own: its whole life."""

import asyncio
import contextvars
import gc
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from eggcluster.ipc.boot_order import BootOrder
from eggcluster.ipc.handshake import read_first
from eggcluster.ipc.vital_record import VitalRecord
from eggcluster.kernel.inherited import close_untaken, hand_down
from eggcluster.logs import speak_as
from eggcluster.model.phase import ExitCode
from eggcluster.model.role import Role
from eggcluster.worker.close_order import CloseOrder
from eggcluster.worker.current import become, inhabit
from eggcluster.worker.entrance import find_application, life_of
from eggcluster.worker.event_loop import new_event_loop
from eggcluster.worker.order_line import OrderLine
from eggcluster.worker.place import Place
from eggcluster.worker.shared_modules import ThreadPlace

_logger = logging.getLogger("eggcluster.worker")


def live(channel_fd: int, orders_fd: int, *, shares_modules: bool) -> int:
    """Be the worker that the channel's first message orders, until its end; gives its exit code. Nothing leaves this
    but that: the thread has others around it.

    `shares_modules`: others live with the same ones; else this interpreter is the worker's own.
    """
    sock = socket.socket(fileno=channel_fd)
    order = read_first(sock, BootOrder)
    hand_down(order.fds)
    close_order = CloseOrder(threading.get_ident())
    record = VitalRecord(order.record_fd)
    place = _place(order, shares_modules)
    line = OrderLine(socket.socket(fileno=orders_fd), close_order, record)
    try:
        return _live(order, sock, place, close_order)
    except SystemExit as end:
        return _exit_code(end)
    except BaseException:
        _logger.exception("the worker was ended by an exception")
        return ExitCode.FAILED
    finally:
        close_order.end()
        line.close()
        sock.close()
        close_untaken(order.fds)
        place.leave()
        gc.collect()  # a process that ends closes its connections; here nobody does but the garbage collector
        record.close()


def _live(order: BootOrder, sock: socket.socket, place: Place, close_order: CloseOrder) -> int:
    began = time.monotonic()
    find_application(order)
    with asyncio.Runner(loop_factory=_worker_loop) as runner:
        return life_of(order, sock, place, close_order).run(runner, began)


def _place(order: BootOrder, shares_modules: bool) -> Place:
    if shares_modules:
        place: Place = ThreadPlace(Role(order.role), order)
        inhabit(place)
        speak_as(order.speaker, place.worker_id, order.log_level)
    else:
        place = become(Role(order.role))
        place.worker_id = threading.get_native_id()
    return place


def _worker_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose executors' threads run in the name of the worker, too. `asyncio.to_thread` sees to that by
    itself, `run_in_executor` does not."""
    loop = new_event_loop()
    run = loop.run_in_executor

    def run_in_executor(executor: Any, function: Callable[..., Any], *args: Any) -> Any:
        return run(executor, contextvars.copy_context().run, function, *args)

    loop.run_in_executor = run_in_executor  # type: ignore[assignment, method-assign]  # not of asyncio alone
    return loop


def _exit_code(end: SystemExit) -> int:
    """As Python's own for a process: sys.exit(3), sys.exit("a text"), sys.exit()."""
    if end.code is None:
        return ExitCode.CLOSED
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)  # noqa: T201
    return ExitCode.FAILED
