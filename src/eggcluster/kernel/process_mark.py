"""The mark of a forked process: its environment in /proc, written over in place. Runs in a forked worker; Linux only.

A fork keeps the environment area of the process that it was forked from, and /proc/PID/environ shows that area for
ever: setenv(3) writes elsewhere. Processes are found by their marks there, so a worker writes its own into the area.
"""

import os

ROOM = 96  # bytes of a mark that can be written over; a worker's has some 40


def with_room(mark: str) -> str:
    """Return a mark that a longer one can be written over."""
    return mark.ljust(ROOM, "_")


def find_mark(name: str) -> tuple[int, int] | None:
    """Return where the environment variable `name` was when this process was started: the address of `NAME=value`, and
    its length in bytes. None if that cannot be seen, or there is no such variable."""
    import ctypes

    start, end = _environment_area()
    area = ctypes.string_at(start, end - start) if end > start else b""
    wanted, address = f"{name}=".encode(), start
    for entry in area.split(b"\0"):
        if entry.startswith(wanted):
            return address, len(entry)
        address += len(entry) + 1
    return None


def take_mark(name: str, mark: str) -> None:
    """Set the environment variable `name`, for children and in /proc; OSError if `find_mark` finds no room for it."""
    import ctypes

    address, room = find_mark(name) or (0, 0)
    entry = f"{name}={mark}".encode()
    if len(entry) > room:
        raise OSError(f"the environment has no room for {name}={mark}")
    ctypes.memmove(address, entry.ljust(room, b"\0"), room)
    os.environ[name] = mark


def _environment_area() -> tuple[int, int]:
    """Return where the environment begins and ends: fields 50 and 51 of /proc/self/stat (proc(5)); 0 if hidden."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[47]), int(fields[48])
