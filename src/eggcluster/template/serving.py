"""A template that answers: it forks a worker for each request, until the master says that it is the end.

It has no event loop. Runs in templates; Linux only.
"""

import gc
import os
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from eggcluster.ipc.fork_request import ForkAnswer, ReceivedRequest, read_request, send_answer
from eggcluster.kernel.grandchild import Grandfork
from eggcluster.kernel.process_adoption import wake_when_parent_dies
from eggcluster.kernel.process_exit import block_until_parent_exits
from eggcluster.kernel.process_tree import CLUSTER_MARK
from eggcluster.model.lives.phase import ExitCode
from eggcluster.worker.lifecycle.lifeline import end_siblings

Unfit = Callable[[Grandfork], str]  # why the process forks no workers, in words; "" if it does


def serve(control: socket.socket, unfit: Unfit) -> ReceivedRequest | None:
    """Answer requests. Return None when that is to end; in a forked process, return its request. If the master
    vanishes, end what is left of the cluster, and exit."""
    forks = Grandfork()
    wake_when_parent_dies()  # the end of the socket ends it from now on
    gc.collect()
    gc.freeze()  # the collector would write to every object, and so copy every page
    try:
        while (received := read_request(control)) is not None:
            answer = _answer(received, forks, unfit)
            if answer is None:
                control.close()
                return received
            for fd in received.fds:
                os.close(fd)
            send_answer(control, answer)
    except EOFError:
        end_with_master()
    return None


def _answer(received: ReceivedRequest, forks: Grandfork, unfit: Unfit) -> ForkAnswer | None:
    """Fork a process, and return the answer; None in the process."""
    if not received.complete:
        return ForkAnswer(refused="the template has no file descriptor left")
    try:
        if why := unfit(forks):
            return ForkAnswer(unfit=why)
        pid = forks.fork()
    except OSError as error:
        return ForkAnswer(refused=str(error))
    return ForkAnswer(pid=pid) if pid else None


def end_with_master() -> NoReturn:
    """Wait for the end of the master, whose files the kernel closes first, and end the workers that cannot end
    themselves. Exit; what the application has registered with `atexit` is for its workers."""
    block_until_parent_exits(int(os.environ[CLUSTER_MARK].partition("-")[0]))
    end_siblings()
    sys.stderr.flush()
    os._exit(ExitCode.MASTER_VANISHED)
