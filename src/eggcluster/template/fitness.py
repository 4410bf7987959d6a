"""What makes a process unfit to fork workers. Runs in templates; Linux only."""

import os
import threading

from eggcluster.kernel.process_mark import find_mark
from eggcluster.kernel.process_tree import WORKER_MARK


def foreign_threads() -> str:
    """Return the threads besides the main one, in words; "" if there are none.

    A forked process has only the thread that forked; locks that another one held stay locked in it for ever. The kernel
    is asked, because Python does not know the threads of a library in C.
    """
    others = len(os.listdir("/proc/self/task")) - 1
    if not others:
        return ""
    names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    return f"threads: {', '.join(names)}" if names else f"{others} threads that are not Python's"


def foreign_descriptors(*known: int) -> str:
    """Return where the open file descriptors besides the standard ones and `known` go, in words; "" if there are none.

    Workers would share them: one's read(2) moves the other's position in a file, or takes its bytes from a connection.
    A file that is mapped does not count: libffi keeps the file of its own library open, to map parts of it again.
    """
    targets = [_target(fd) for fd in _descriptors() if fd > 2 and fd not in known]
    found = [target for target in targets if target and target not in _mapped_files()]
    return f"open file descriptors: {', '.join(found)}" if found else ""


def hidden_mark() -> str:
    """Return in words that a worker's mark could not be written where others look for it; "" if it can."""
    return "" if find_mark(WORKER_MARK) else "an environment that /proc does not show"


def _descriptors() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc/self/fd"))


def _mapped_files() -> set[str]:
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        return {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if "/" in line}


def _target(fd: int) -> str:
    """Return where a descriptor goes; "" if it is closed already, as the one that listed them."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""
