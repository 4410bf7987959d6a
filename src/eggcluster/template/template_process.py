"""The base template from its first line to its end. It loads what every worker needs, and forks workers of it.

It has no threads, no event loop and no code of the application, so that a fork is safe. It runs nothing but `serve`;
what it must not have, and has all the same, comes from the interpreter's start (`sitecustomize`, `.pth` files).
"""

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
from eggcluster.ipc.fork_request import ReceivedRequest
from eggcluster.kernel.descriptors import open_standard_streams
from eggcluster.kernel.process_mark import take_mark
from eggcluster.kernel.process_tree import WORKER_MARK
from eggcluster.kernel.signal_actions import reset_inherited_signals
from eggcluster.model.lives.phase import ExitCode
from eggcluster.template.fitness import foreign_descriptors, foreign_threads, hidden_mark
from eggcluster.template.preload_template import run_preload_template
from eggcluster.template.serving import serve
from eggcluster.worker.lifecycle.startup import load_event_loop
from eggcluster.worker.lifecycle.worker_process import run_worker


def main() -> NoReturn:
    """Fork workers until the master says that it is the end, or vanishes. In a forked process, run what it is to be:
    a worker, or the template of `--preload`, and exit with its exit code."""
    reset_inherited_signals()  # an ignored SIGCHLD would take the exit codes of the processes between away
    open_standard_streams()
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    setproctitle.setproctitle(f"egg-template: {sys.argv[2]}")
    load_event_loop()
    lasting = foreign_descriptors(control.fileno()) or hidden_mark()
    born = serve(control, lambda forks: lasting or foreign_threads())
    if born is not None and born.request.is_template:
        become_process(born)
        born = run_preload_template(born.fds[0])
    if born is None:
        control.close()  # Python's development mode would warn of it
        sys.exit(ExitCode.CLOSED)
    began = time.monotonic()
    become_process(born)
    run_worker(born.fds[0], dict(zip(born.request.fds, born.fds, strict=True)), began)


def become_process(born: ReceivedRequest) -> None:
    """Make the forked process what a started one is from its beginning: leader of its session, with its own mark."""
    os.setsid()
    take_mark(WORKER_MARK, born.request.mark)
    sys.argv[1:] = [str(born.fds[0])]
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined]  # before 3.13, Python keeps the template's
    reseed()


def reseed() -> None:
    """Give the process random numbers of its own where a library has a generator for all callers and does not see the
    fork. Python's `random` and OpenSSL do; a generator that the application has made is its own matter."""
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()
