"""Standard input, output and error that somebody closed. Runs first in master, workers and parents."""

import os
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
