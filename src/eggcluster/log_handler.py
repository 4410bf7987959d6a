"""The log handler of master, agent and workers: it never waits, and what it cannot write never kills.

Standard error may be a pipe that nobody reads, a terminal under Ctrl-S, a full disk. A guard that waits there guards
nobody. So what cannot be written at once waits in memory, and is tried again with each line, by a timer of the event
loop, and for a moment at the end.
"""

import atexit
import contextlib
import errno
import logging
import os
import time
from typing import TYPE_CHECKING

from eggcluster.kernel.nonblocking_output import ATOMIC, NonblockingOutput
from eggcluster.model.log_buffer import LogBuffer

if TYPE_CHECKING:
    import asyncio

ROOM = 1024 * 1024  # bytes that wait in memory at the most; some ten thousand lines
LAST_WORDS = 1.0  # seconds that the end of the process waits for a slow reader
FIRST_RETRY, MAX_RETRY = 0.02, 1.0  # seconds; doubled each time
TEMPORARY = (errno.EAGAIN, errno.EINTR, errno.ENOSPC, errno.EDQUOT, errno.ENOBUFS, errno.ENOMEM)


class LogHandler(logging.Handler):
    """Writes to `output`. Made once, for the rest of the process; `run_in` gives it the loop for its retries."""

    def __init__(self, output: NonblockingOutput, room: int = ROOM) -> None:
        super().__init__()
        self._output = output
        self._backlog = LogBuffer(room, self._notice)
        self._writing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._retry_delay = 0.0  # of the retry that is under way; 0: none is
        self._trouble = ""
        self._waits = False  # for a reader, when it failed last
        atexit.register(self.finish)
        os.register_at_fork(after_in_child=self._forget)

    def run_in(self, loop: "asyncio.AbstractEventLoop") -> None:
        """From now on `loop` runs, and what waits is tried again by its timer."""
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:  # the caller's: arguments that do not fit, a __str__ that raises
            text = self._misuse(record, error)
        if self._backlog.lost:
            self._write()  # first, lest this one is lost although there is room again
        self._backlog.put(_encode(text))
        self._write()

    def flush(self) -> None:
        """Write what can be written now."""
        with self.lock or contextlib.nullcontext():
            self._write()

    def finish(self) -> None:
        """The process ends: wait for a slow reader, a moment."""
        deadline = time.monotonic() + LAST_WORDS
        with self.lock or contextlib.nullcontext():
            self._write()
            while self._backlog.size and (left := deadline - time.monotonic()) > 0:
                if not (self._waits and self._output.wait(left)):  # a full disk is always ready, and takes nothing
                    return
                self._write()

    # -- writing -----------------------------------------------------------------------------------------

    def _write(self) -> None:
        """As much as can be taken; what is left is tried again."""
        if self._writing:  # a signal's handler logs, in the middle of this: its line is in the backlog
            return
        self._writing = True
        try:
            while head := self._backlog.head(ATOMIC):
                self._backlog.took(self._output.write(head))
                if not self._backlog.size:
                    self._backlog.tell_lost()
        except OSError as error:
            self._failed(error)
        finally:
            self._writing = False
        if self._backlog.size:
            self._retry_later()

    def _failed(self, error: OSError) -> None:
        self._waits = isinstance(error, BlockingIOError)
        self._trouble = "nobody read standard error" if self._waits else f"standard error: {error.strerror}"
        if error.errno not in (None, *TEMPORARY):  # nobody is there any more
            self._backlog.lose_all()

    def _retry_later(self) -> None:
        if self._loop is not None and not self._retry_delay:
            self._retry_delay = FIRST_RETRY
            with contextlib.suppress(RuntimeError):  # the loop has been closed: `finish` comes
                self._loop.call_soon_threadsafe(self._wait_and_retry)

    def _wait_and_retry(self) -> None:
        assert self._loop is not None
        self._loop.call_later(self._retry_delay, self._retry)

    def _retry(self) -> None:
        with self.lock or contextlib.nullcontext():
            delay = self._retry_delay
            before = self._backlog.size
            self._write()
            if not self._backlog.size:
                self._retry_delay = 0.0
                return
            self._retry_delay = FIRST_RETRY if self._backlog.size < before else min(delay * 2, MAX_RETRY)
            self._wait_and_retry()

    # -- small things ------------------------------------------------------------------------------------

    def _notice(self, lost: int) -> bytes:
        lines = "1 log line" if lost == 1 else f"{lost} log lines"
        text = f"lost {lines}: {self._trouble}"
        return _encode(self._format("eggcluster.logs", logging.WARNING, text))

    def _misuse(self, record: logging.LogRecord, error: Exception) -> str:
        """What logging would print to standard error by itself, and so wait there; ours is one line."""
        text = f"logged wrongly at {record.pathname}:{record.lineno}: {type(error).__name__}"
        with contextlib.suppress(Exception):
            text += f": {error}: {record.msg!r} with {record.args!r}"
        return self._format(record.name, logging.ERROR, text)

    def _format(self, name: str, level: int, text: str) -> str:
        return self.format(logging.LogRecord(name, level, __file__, 0, text, None, None))

    def _forget(self) -> None:
        """In a forked child: what waits is the parent's to write, and the loop does not run here."""
        self._backlog.forget()
        self._loop, self._writing, self._retry_delay = None, False, 0.0


def _encode(text: str) -> bytes:
    return f"{text}\n".encode("utf-8", "backslashreplace")
