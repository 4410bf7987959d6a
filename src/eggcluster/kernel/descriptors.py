"""File descriptors: how many may still be opened, and the standard ones that were closed. Runs in all."""

import os
import resource
import sys


def open_standard_streams() -> None:
    """Open the null device on each of the descriptors 0 to 2 that is closed.

    Else the next file or socket that is opened takes its number: log lines would go into it, and uvloop aborts when
    it closes one.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # Python found it closed
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115  # for good


RESERVE = 16  # descriptors left to the application: what it is serving wants to open files, too
SHARE = 16  # of a small limit the reserve is at most one part in so many


class Descriptors:
    """The soft limit of RLIMIT_NOFILE, and a reserve below it."""

    def __init__(self, reserve: int = RESERVE, share: int = SHARE) -> None:
        self._wanted, self._share = reserve, share
        self.limit = self._reserve = self.ceiling = 0
        self._read_limit()

    def have_room(self) -> bool:
        """Whether twice the reserve is free: some room to go on with. Opens as many for a moment."""
        self._read_limit()  # prlimit(1) may have changed it
        opened: list[int] = []
        try:
            while len(opened) < 2 * self._reserve:
                opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))  # dup would not see ENFILE
        except OSError:
            return False
        finally:
            for descriptor in opened:
                os.close(descriptor)
        return max(opened) < self.ceiling

    def have_one(self) -> bool:
        """Return whether a descriptor is free below the reserve, for one that is sent. Opens it for a moment."""
        self._read_limit()
        try:
            descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        os.close(descriptor)
        return descriptor < self.ceiling

    def is_reserve(self, descriptor: int) -> bool:
        """Whether one that was just opened, the lowest that was free (open(2)), is one of the reserve."""
        self._read_limit()
        return descriptor >= self.ceiling

    def _read_limit(self) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.limit = limit if limit != resource.RLIM_INFINITY else 2**31
        self._reserve = max(1, min(self._wanted, self.limit // self._share))
        self.ceiling = self.limit - self._reserve  # a descriptor from here on is one of the reserve
