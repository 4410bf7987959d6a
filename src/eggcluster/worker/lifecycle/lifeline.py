"""The lifeline: ends a worker within a second when its master vanishes. Runs as a thread in every worker process.

It is a thread and not a task, because the event loop may be blocked. A C extension that holds the GIL blocks the
thread, too: so one of the processes that can run, a worker or the template, stays a moment longer and ends the ones
that cannot.
"""

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Iterator

from eggcluster.kernel.nonblocking_output import write_at_once
from eggcluster.kernel.process_adoption import wake_when_parent_dies
from eggcluster.kernel.process_exit import block_until_parent_exits
from eggcluster.kernel.process_tree import (
    CLUSTER_MARK,
    WORKER_MARK,
    kill_until_gone,
    marked,
    session_members,
)
from eggcluster.model.lives.phase import ExitCode

SIBLING_GRACE = 0.3  # seconds in which the other workers can end by themselves, with exit code 110


def hold_lifeline(master: int, speaker: str) -> None:
    """Start watching the master's process. Call it once, before anything else."""
    wake_when_parent_dies()
    threading.Thread(target=_watch, args=(master, speaker), name="egg-lifeline", daemon=True).start()


def _watch(master: int, speaker: str) -> None:
    try:
        block_until_parent_exits(master)
        # Not sys.stderr: the application may have replaced it, and it may have no reader.
        write_at_once(2, f"[{speaker}] the master has vanished, exit with code:110\n".encode())
        _end_everything()
    finally:
        os._exit(ExitCode.MASTER_VANISHED)


def _end_everything() -> None:
    """End what this worker started; then, if it is the one that stays last, what is left of the cluster."""
    me = os.getpid()
    own = f"{WORKER_MARK}={os.environ.get(WORKER_MARK, '')}"
    kill_until_gone(lambda: session_members(me, own), limit=0.2)
    end_siblings()


def end_siblings() -> None:
    """If this process is the one that stays last, end what is left of the cluster, whose master has vanished."""
    cluster_id = os.environ.get(CLUSTER_MARK, "")
    with _stay_last(cluster_id) as chosen:
        if chosen:
            time.sleep(SIBLING_GRACE)
            kill_until_gone(lambda: marked(f"{CLUSTER_MARK}={cluster_id}"), limit=0.2)


@contextlib.contextmanager
def _stay_last(cluster_id: str) -> Iterator[bool]:
    """Yield whether this process stays last. If several stayed, they would kill each other before they exit with 110.

    Linux frees an abstract socket's name when its owner ends, in whatever way: unix(7).
    """
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            claim.bind(f"\0eggcluster-last/{cluster_id}")
        except OSError as error:
            yield error.errno != errno.EADDRINUSE
        else:
            yield True
