"""The vital record of one worker: how it is, and its last words. Written by the worker, read by the master.

The numbers need no system call and no wake-up on either side; the words behind them are there still when it is dead.

Both ends map the same memory file. Nothing in it can hurt the master: numbers are taken as they are, and the words are
read up to a limit.
"""

import contextlib
import mmap
import os

from eggcluster.kernel.memory import memory_file
from eggcluster.model.lives.worker import Heartbeat

NUMBERS = 4096  # bytes; the words begin behind them
MAX_WORDS = 64 * 1024  # bytes that are read: the stacks of some hundred threads
_NANO = 1_000_000_000


class HeartbeatPage:
    """One end of it. `fd` is the memory file; the master's end owns it, and `close` gives it back."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, NUMBERS)
        self._numbers = memoryview(self._map).cast("Q")  # aligned: each number is written and read as a whole

    @classmethod
    def create(cls, name: str) -> "HeartbeatPage":
        """A new one, empty; OSError where the system refuses."""
        fd = memory_file(name, NUMBERS)
        try:
            os.lseek(fd, NUMBERS, os.SEEK_SET)
            return cls(fd)
        except OSError:
            os.close(fd)
            raise

    def write(self, signs: Heartbeat) -> None:
        """The worker's: how it is. The beat comes last, since it is what says that the others are new."""
        numbers = self._numbers
        numbers[1] = int(signs.lag * _NANO)
        numbers[2] = signs.requests
        numbers[3] = signs.connections
        numbers[4] = not signs.accepting
        numbers[5] = signs.accepted
        numbers[0] = int(signs.beat * _NANO)

    def read(self) -> Heartbeat:
        """The master's: what the worker wrote last."""
        beat, lag, requests, connections, refusing, accepted = self._numbers[:6]
        return Heartbeat(beat / _NANO, lag / _NANO, requests, connections, not refusing, accepted)

    def tell_read(self, messages: int) -> None:
        """The worker's: so many messages have been read since it began."""
        self._numbers[6] = messages

    def messages_read(self) -> int:
        """The master's: what the worker told last."""
        return self._numbers[6]

    def last_words(self) -> str:
        """What was written behind the numbers, mostly by faulthandler in a process that was about to die."""
        with contextlib.suppress(OSError):
            words = os.pread(self.fd, MAX_WORDS, NUMBERS).decode(errors="replace").strip("\0\n ")
            words = words.partition("\n\nExtension modules:")[0]
            # For a log, whatever a worker has written: no escape sequence for a terminal, no byte that makes it binary.
            return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in words)
        return ""

    def write_words(self, words: str) -> None:
        """The worker's: its last words, where it is still able to find them itself."""
        os.pwrite(self.fd, words.encode("utf-8", "backslashreplace")[:MAX_WORDS], NUMBERS)

    def close(self) -> None:
        """Give it back; may be called again."""
        if self.fd >= 0:
            self._numbers.release()
            self._map.close()
            os.close(self.fd)
            self.fd = -1
