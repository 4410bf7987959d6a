"""The base template from its first line to its end. It loads what every worker needs, and forks workers of it.

It has no threads, no event loop and no code of the application, so that a fork is safe. It runs nothing but the loop
below; what it must not have, and has all the same, comes from the interpreter's start (`sitecustomize`, `.pth` files).
"""

import gc
import os
import socket
import sys
import threading
import time
from typing import NoReturn

import setproctitle

# What every worker needs, of both roles: each page of it that a worker does not write to is shared by all.
import eggcluster.worker.agent.agent_lifecycle
import eggcluster.worker.app.app_lifecycle
import eggcluster.worker.engines.http_engine  # noqa: F401
from eggcluster.ipc.fork_request import ForkAnswer, ReceivedRequest, read_request, send_answer
from eggcluster.kernel.descriptors import open_standard_streams
from eggcluster.kernel.grandchild import Grandfork
from eggcluster.kernel.process_adoption import wake_when_parent_dies
from eggcluster.kernel.process_exit import block_until_parent_exits
from eggcluster.kernel.process_mark import take_mark
from eggcluster.kernel.process_tree import CLUSTER_MARK, WORKER_MARK
from eggcluster.kernel.signal_actions import reset_inherited_signals
from eggcluster.model.lives.phase import ExitCode
from eggcluster.template.fitness import foreign_descriptors, foreign_threads, hidden_mark
from eggcluster.worker.lifecycle.lifeline import end_siblings
from eggcluster.worker.lifecycle.startup import load_event_loop
from eggcluster.worker.lifecycle.worker_process import run_worker


def main() -> NoReturn:
    """Fork workers until the master says that it is the end, or vanishes. In a worker, run it and exit with its exit
    code."""
    reset_inherited_signals()  # an ignored SIGCHLD would take the exit codes of the processes between away
    open_standard_streams()
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    setproctitle.setproctitle(f"egg-template: {sys.argv[2]}")
    load_event_loop()
    try:
        born = serve(control)
    except EOFError:
        end_with_master()
    if born is None:
        control.close()  # Python's development mode would warn of it
        sys.exit(ExitCode.CLOSED)
    began = time.monotonic()
    become_process(born)
    run_worker(born.fds[0], dict(zip(born.request.fds, born.fds, strict=True)), began)


def serve(control: socket.socket) -> ReceivedRequest | None:
    """Answer requests. Return None when that is to end; in a forked worker, return its request. EOFError if the master
    is vanishing."""
    forks = Grandfork()
    wake_when_parent_dies()  # the end of the socket ends it from now on
    unfit = foreign_descriptors(control.fileno()) or hidden_mark()
    gc.collect()
    gc.freeze()  # the collector would write to every object, and so copy every page
    while (received := read_request(control)) is not None:
        answer = _answer(received, forks, unfit)
        if answer is None:
            control.close()
            return received
        for fd in received.fds:
            os.close(fd)
        send_answer(control, answer)
    return None


def _answer(received: ReceivedRequest, forks: Grandfork, unfit: str) -> ForkAnswer | None:
    """Fork a worker, and return the answer; None in the worker."""
    if not received.complete:
        return ForkAnswer(refused="the template has no file descriptor left")
    try:
        if unfit := unfit or foreign_threads():
            return ForkAnswer(unfit=unfit)
        pid = forks.fork()
    except OSError as error:
        return ForkAnswer(refused=str(error))
    return ForkAnswer(pid=pid) if pid else None


def end_with_master() -> NoReturn:
    """Wait for the end of the master, whose files the kernel closes first, and end the workers that cannot end
    themselves. Exit."""
    block_until_parent_exits(int(os.environ[CLUSTER_MARK].partition("-")[0]))
    end_siblings()
    sys.exit(ExitCode.MASTER_VANISHED)


def become_process(born: ReceivedRequest) -> None:
    """Make the forked process what a started one is from its beginning: leader of its session, with its own mark."""
    os.setsid()
    take_mark(WORKER_MARK, born.request.mark)
    sys.argv[1:] = [str(born.fds[0])]
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined]  # before 3.13, Python keeps the template's
