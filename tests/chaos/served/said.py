"""The lines that the applications log, counted by those who log them. Runs in the agent and the app workers.

Each process keeps two numbers in a file of its own: how many lines it has begun, and how many it has logged. The kernel
keeps them when the process is killed, so the test knows exactly which lines the log must have.
"""

import logging
import os
import time
from pathlib import Path

from tests.chaos.served.said_format import NUMBER, PADDING

_loggers = [logging.getLogger("eggcluster.app"), logging.getLogger("shop")]


class Said:
    """The lines of one process; a fork of it counts its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begin()
        os.register_at_fork(after_in_child=self._begin)  # with --preload, the template has imported this module

    def _begin(self) -> None:
        self._name = f"{os.getpid()}-{time.monotonic_ns()}"  # pids are used again
        self._file = os.open(self._folder / self._name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC)
        os.pwrite(self._file, bytes(2 * NUMBER.size), 0)
        self._count = 0

    def say(self, text: str) -> None:
        """Log a line, from the event loop's thread."""
        self._count += 1
        os.pwrite(self._file, NUMBER.pack(self._count), 0)
        logger = _loggers[self._count % len(_loggers)]
        logger.info("said %s %d %s %s", self._name, self._count, text, "=" * (self._count % PADDING))
        os.pwrite(self._file, NUMBER.pack(self._count), NUMBER.size)


said = Said(Path(os.environ["EGG_CHAOS_SAID"]))
