"""What makes a process unfit to fork workers. Runs in templates; Linux only."""

import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Container

from eggcluster.kernel.process_mark import find_mark
from eggcluster.kernel.process_tree import WORKER_MARK
from eggcluster.wording import printable

HARMLESS = {"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"}  # to be read by several processes


def foreign_threads(allowed: Container[str] = (), place: Callable[[threading.Thread], str] = lambda thread: "") -> str:
    """Return the threads besides the main one and those named in `allowed`, in words; "" if there are none.

    A forked process has only the thread that forked; locks that another one held stay locked in it for ever. The kernel
    is asked, because Python does not know the threads of a library in C. `place` says where a thread was started.
    """
    by_id = {thread.native_id: thread for thread in threading.enumerate()}
    found = []
    for number in sorted(int(name) for name in os.listdir("/proc/self/task")):
        thread = by_id.get(number)
        name = thread.name if thread is not None else _name_of_task(number)
        if number != os.getpid() and name and name not in allowed:
            found.append(f"{name}{place(thread) if thread is not None else ' (not started by Python)'}")
    return f"threads: {', '.join(found)}" if found else ""


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


def _name_of_task(number: int) -> str:
    """Return the kernel's name of a thread; "" if it has ended."""
    try:
        with open(f"/proc/self/task/{number}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def open_descriptors() -> dict[int, str]:
    """Return the open file descriptors, and where each goes."""
    return {fd: target for fd in _descriptors() if (target := _target(fd))}


def opened_since(before: dict[int, str]) -> list[str]:
    """Return where the descriptors go that have been opened since, in words. Mapped files and harmless devices are left
    out."""
    found = {fd: target for fd, target in open_descriptors().items() if before.get(fd) != target}
    harmless = HARMLESS | _mapped_files()
    named = Counter(_in_words(fd, target) for fd, target in found.items() if target not in harmless)
    return [f"{name} ({count} times)" if count > 1 else name for name, count in named.items()]


def _in_words(fd: int, target: str) -> str:
    """Return a target with the addresses of a socket, and without the kernel's number."""
    kind = target.removeprefix("anon_inode:").partition(":[")[0].strip("[]")
    if kind != "socket":
        return kind
    with socket.socket(fileno=os.dup(fd)) as sock:
        try:
            return f"socket to {_address(sock.getpeername())}" if sock.getpeername() else "socket pair"
        except OSError:
            return f"socket at {_address(sock.getsockname())}"


def _address(found: object) -> str:
    if isinstance(found, tuple):
        return f"{found[0]}:{found[1]}"
    return printable(os.fsdecode(found)) if isinstance(found, (str, bytes)) and found else "no address yet"


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
