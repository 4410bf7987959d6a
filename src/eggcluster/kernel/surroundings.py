"""What a new process gets from the one that starts it: limits, directory, environment, place. Runs in the master.

A process that is forked from a template gets the template's. A template is therefore good only for as long as its own
surroundings are the master's.
"""

import contextlib
import os

Surroundings = tuple[object, ...]

_STATUS = tuple(b"Umask Groups NoNewPrivs Seccomp Cpus_allowed Mems_allowed SigIgn Cap Uid Gid".split())


def surroundings(directory: str | None, interpreter: str) -> Surroundings:
    """Return what a child of this process would get from it now, to be compared with another such value. The child
    would run `interpreter`, in `directory`, or (None) in this process's own.

    Its parts are proc(5)'s: umask, users, capabilities, CPUs and ignored signals; resource limits; OOM score; control
    group. The nice value, the scheduling policy and the environment join them, and both places: a link on the way to
    one may lead elsewhere now.
    """
    return (
        _status(),
        *(_content(f"/proc/self/{name}") for name in ("limits", "oom_score_adj", "cgroup")),
        *(_place(path) for path in (directory or ".", os.path.dirname(interpreter))),
        os.getpriority(os.PRIO_PROCESS, 0),
        os.sched_getscheduler(0),
        dict(os.environ),
    )


def _status() -> list[bytes]:
    return [line for line in _content("/proc/self/status").splitlines() if line.startswith(_STATUS)]


def _content(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""


def _place(path: str) -> tuple[int, int]:
    """Return which directory that is; zeros if it is gone."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return 0, 0
