"""A worker's heartbeat page: its latest state and its final message. Runs in all workers, which write, and the master.

The master writes two numbers, too: whether the whole cluster closes (a message that says so could come later than the
signal on which the worker acts), and whether the worker is fenced. Both ends map the same memory file. The numbers need
no system call and no wake-up on either side. The text behind them can still be read when the worker is dead. No content
can hurt the master: it takes the numbers as they are, and reads the text up to a limit.
"""

import contextlib
import mmap
import os

from eggcluster.ipc.handler_progress import FENCED, NUMBERS, read_begun, read_fenced
from eggcluster.kernel.memory import memory_file
from eggcluster.model.http_counters import SIZE
from eggcluster.model.lives.worker import Heartbeat
from eggcluster.model.messages.begun import Begun

NUMBERS_BYTES = 3 * 4096  # whole pages; the final message begins behind them
MAX_FINAL_MESSAGE_BYTES = 64 * 1024  # the stacks of some hundred threads
_NANO = 1_000_000_000
# The numbers, as unsigned 64-bit integers; times in nanoseconds.
_BEAT, _LAG, _REQUESTS, _CONNECTIONS, _REFUSING, _ACCEPTED, _FULL, _LOST_THREADS = range(8)
_CLUSTER_CLOSES, _CLOSE_HEARD = range(8, 10)
_MESSAGES = slice(16, 16 + NUMBERS)  # those of ipc/handler_progress.py
_HTTP = slice(16 + NUMBERS, 16 + NUMBERS + SIZE)  # those of model/http_counters.py


class HeartbeatPage:
    """One end of the page. `fd` is the memory file; `close` closes that, too."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, NUMBERS_BYTES)
        self._numbers = memoryview(self._map).cast("Q")  # aligned: each number is written and read as a whole
        self.messages = self._numbers[_MESSAGES]
        self.http = self._numbers[_HTTP]

    @classmethod
    def create(cls, name: str) -> "HeartbeatPage":
        """Return a new, empty page; OSError if the system refuses."""
        fd = memory_file(name, NUMBERS_BYTES)
        try:
            os.lseek(fd, NUMBERS_BYTES, os.SEEK_SET)  # where faulthandler begins to write
            return cls(fd)
        except OSError:
            os.close(fd)
            raise

    def write(self, heartbeat: Heartbeat) -> None:
        """Write the worker's state. The beat is written last, because it says that the other numbers are new."""
        numbers = self._numbers
        numbers[_LAG] = int(heartbeat.lag * _NANO)
        numbers[_REQUESTS] = heartbeat.requests
        numbers[_CONNECTIONS] = heartbeat.connections
        numbers[_REFUSING] = not heartbeat.accepting
        numbers[_ACCEPTED] = heartbeat.accepted
        numbers[_FULL] = heartbeat.full
        numbers[_LOST_THREADS] = heartbeat.lost_threads
        numbers[_BEAT] = int(heartbeat.beat * _NANO)

    def read(self) -> Heartbeat:
        """Return what the worker wrote last. Called by the master."""
        numbers = self._numbers
        return Heartbeat(
            beat=numbers[_BEAT] / _NANO,
            lag=numbers[_LAG] / _NANO,
            requests=numbers[_REQUESTS],
            connections=numbers[_CONNECTIONS],
            accepting=not numbers[_REFUSING],
            accepted=numbers[_ACCEPTED],
            full=bool(numbers[_FULL]),
            lost_threads=numbers[_LOST_THREADS],
        )

    def begun(self) -> Begun:
        """Return how far the worker has come with its messages. Called by the master."""
        return read_fenced(self.messages) if self.messages[FENCED] else read_begun(self.messages)

    def write_fence(self) -> None:
        """Let the worker begin no message any more that it has not read. Called by the master, some time before it
        hands those messages on."""
        self.messages[FENCED] = 1

    @property
    def closed(self) -> bool:
        """Whether the page is released."""
        return self.fd < 0

    def write_cluster_closes(self) -> None:
        """Write that the whole cluster closes: no worker follows this one. Called by the master."""
        self._numbers[_CLUSTER_CLOSES] = 1

    def cluster_closes(self) -> bool:
        """Return whether the whole cluster closes."""
        return bool(self._numbers[_CLUSTER_CLOSES])

    def write_close_heard(self) -> None:
        """Write that the worker has read the order to close."""
        self._numbers[_CLOSE_HEARD] = 1

    def close_heard(self) -> bool:
        """Return whether the worker has read the order to close. Called by the master."""
        return bool(self._numbers[_CLOSE_HEARD])

    def write_final_message(self, text: str) -> None:
        """Write the final message of a worker that can still run Python, cut off at MAX_FINAL_MESSAGE_BYTES."""
        os.pwrite(self.fd, text.encode("utf-8", "backslashreplace")[:MAX_FINAL_MESSAGE_BYTES], NUMBERS_BYTES)

    def final_message(self) -> str:
        """Return the final message, mostly written by faulthandler in a dying process; "" if there is none."""
        with contextlib.suppress(OSError):
            raw = os.pread(self.fd, MAX_FINAL_MESSAGE_BYTES, NUMBERS_BYTES)
            text = raw.decode(errors="replace").strip("\0\n ").partition("\n\nExtension modules:")[0]
            # It goes to a log: no escape sequence for a terminal, no byte that makes the log binary.
            return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text)
        return ""

    def close(self) -> None:
        """Release the page; may be called again."""
        if self.fd >= 0:
            self.messages.release()
            self.http.release()
            self._numbers.release()
            self._map.close()
            os.close(self.fd)
            self.fd = -1
