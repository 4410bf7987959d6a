"""File descriptors: how many may still be opened, and the standard ones that were closed. Runs in all processes."""

import os
import resource
import sys


def open_standard_streams() -> None:
    """Open the null device on each of the descriptors 0 to 2 that is closed.

    Else the next file or socket that is opened takes the number: log lines would go into it, and uvloop aborts when it
    closes such a descriptor.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # Python found it closed
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115  # stays open


RESERVE = 16  # descriptors left to the application, which opens files while it serves
SHARE = 16  # the reserve is at most this fraction (1/16) of the limit


class Descriptors:
    """The soft limit of RLIMIT_NOFILE, and a reserve below it."""

    def __init__(self, reserve: int = RESERVE, share: int = SHARE) -> None:
        self._wanted, self._share = reserve, share
        self.limit = self.reserve = self.ceiling = 0
        self._read_limit()

    @property
    def needed(self) -> int:
        """How many have to be free to continue after a shortage: twice the reserve."""
        return 2 * self.reserve

    def have_room(self) -> bool:
        """Return whether twice the reserve is free, which is enough to continue. Opens that many for a moment."""
        self._read_limit()  # prlimit(1) may have changed it
        opened: list[int] = []
        try:
            while len(opened) < self.needed:
                opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))  # dup would not see ENFILE
        except OSError:
            return False
        finally:
            for descriptor in opened:
                os.close(descriptor)
        return max(opened) < self.ceiling

    def have_one(self) -> bool:
        """Return whether a descriptor is free below the reserve, so that one can be sent. Opens it for a moment."""
        self._read_limit()
        try:
            descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        os.close(descriptor)
        return descriptor < self.ceiling

    def has_number(self, descriptor: int) -> bool:
        """Return whether a number is free below the reserve, so that a descriptor can be received. Duplicates an open
        one for a moment: a quarter of what `have_one` takes, which also sees whether a file can be opened."""
        self._read_limit()
        try:
            copy = os.dup(descriptor)
        except OSError:
            return False
        os.close(copy)
        return copy < self.ceiling

    def is_reserve(self, descriptor: int) -> bool:
        """Return whether a descriptor that was just opened is one of the reserve. It was the lowest free (open(2))."""
        self._read_limit()
        return descriptor >= self.ceiling

    def _read_limit(self) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.limit = limit if limit != resource.RLIM_INFINITY else 2**31
        self.reserve = max(1, min(self._wanted, self.limit // self._share))
        self.ceiling = self.limit - self.reserve  # a descriptor from here on is one of the reserve
