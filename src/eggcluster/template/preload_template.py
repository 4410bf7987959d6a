"""The template of `--preload`: imports the application, and forks the app workers. Runs in it; Linux only.

The base template has forked it, so it shares our own modules with all. What its import leaves behind, each worker
inherits: threads make it unfit, open descriptors are named. See docs/preload.md.
"""

import faulthandler
import logging
import os
import socket
import sys
import time
from typing import NoReturn

import setproctitle

from eggcluster.errors import OptionsError
from eggcluster.ipc.fork_request import LoadReport, ReceivedRequest, read_order, send_answer
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.grandchild import Grandfork
from eggcluster.kernel.process_adoption import die_with_parent
from eggcluster.kernel.process_tree import children_of, kill_until_gone
from eggcluster.model.lives.phase import ExitCode
from eggcluster.template.fitness import foreign_threads, hidden_mark, open_descriptors, opened_since
from eggcluster.template.serving import end_with_master, serve
from eggcluster.template.thread_starts import ThreadStarts
from eggcluster.worker.app.preloading import preload, prepare

THREAD_END_LIMIT = 0.5  # seconds; the kernel shows a thread for a moment longer than its joiner waits for it

_logger = logging.getLogger("eggcluster.worker")


def run_preload_template(channel: int) -> ReceivedRequest:
    """Import what the master orders on the socket `channel`, and fork workers until it is the end. Return in a forked
    worker, with its request; the template itself exits."""
    control = socket.socket(fileno=channel)
    control.set_inheritable(False)
    try:
        spec = read_order(control)
    except EOFError:
        end_with_master()
    setproctitle.setproctitle(f"egg-template: {spec.options.name} (preload)")
    die_with_parent()  # an import is not interrupted by the end of a socket
    starts = ThreadStarts()
    send_answer(control, LoadReport(failed=not _load(spec, starts)))
    born = serve(control, lambda forks: hidden_mark() or _lasting_threads(forks, spec, starts))
    if born is None:
        end()
    return born


def _load(spec: WorkerSpec, starts: ThreadStarts) -> bool:
    """Import the application; return whether that has worked. Name the descriptors that the import has left open."""
    faulthandler.enable(all_threads=True)  # the master sends SIGABRT if the import does not end
    try:
        log_handler = prepare(spec)
    except OptionsError:  # the workers, which start without a template then, report it
        end()
    before = open_descriptors()
    with starts:
        preloaded = preload(spec, log_handler)
    if opened := opened_since(before):
        _logger.warning("preload: all workers share what the import has left open: %s", ", ".join(opened))
    faulthandler.disable()
    return preloaded.error is None


def _lasting_threads(forks: Grandfork, spec: WorkerSpec, starts: ThreadStarts) -> str:
    """Return the threads that a fork does not end, in words. A library may end its own in a handler of the C library
    (pthread_atfork(3)), as OpenBLAS does; so a fork is tried."""
    allowed = spec.options.preload_threads
    if not foreign_threads(allowed):
        return ""
    forks.try_handlers()
    deadline = time.monotonic() + THREAD_END_LIMIT
    while (found := foreign_threads(allowed, starts.place)) and time.monotonic() < deadline:
        time.sleep(0.005)
    return found


def end() -> NoReturn:
    """End the processes that the import has started, and exit. What it has registered with `atexit` is for the
    workers."""
    kill_until_gone(_descendants, limit=0.2)
    sys.stderr.flush()
    os._exit(ExitCode.CLOSED)


def _descendants() -> list[int]:
    """Return the living descendants. (A worker that was just forked is none of them, but still carries the mark.)"""
    found = children_of(os.getpid())
    for pid in found:
        found += children_of(pid)
    return found
