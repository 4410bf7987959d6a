"""The log handler of master, agent and app workers: it never blocks, and a failed write never ends the process.

Standard error may be a pipe that is not read, a terminal under Ctrl-S, or a full disk. A master that blocks there
supervises nothing, so lines that cannot be written at once wait in memory. Writing is tried again with each new line,
by a timer of the event loop, and for a moment at the end of the process.
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
from eggcluster.wording import one_line

if TYPE_CHECKING:
    import asyncio

MAX_WAITING_BYTES = 1024 * 1024  # some ten thousand lines
FINAL_FLUSH_TIMEOUT = 1.0  # seconds that the end of the process waits for a slow reader
FIRST_RETRY_DELAY, MAX_RETRY_DELAY = 0.02, 1.0  # seconds; the delay doubles each time
TEMPORARY_ERRNOS = (errno.EAGAIN, errno.EINTR, errno.ENOSPC, errno.EDQUOT, errno.ENOBUFS, errno.ENOMEM)


class LogHandler(logging.Handler):
    """Writes log lines to `output`. Made once per process; `run_in` sets the loop whose timer repeats failed writes."""

    def __init__(self, output: NonblockingOutput, max_bytes: int = MAX_WAITING_BYTES) -> None:
        super().__init__()
        self._output = output
        self._buffer = LogBuffer(max_bytes, self._notice)
        self._writing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._retry_delay = 0.0  # of the scheduled retry; 0 if there is none
        self._trouble = ""  # why the last write failed
        self._full = False  # the last write failed because the other end does not read
        atexit.register(self.finish)
        os.register_at_fork(after_in_child=self._after_fork)

    def run_in(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Repeat failed writes by a timer of `loop`, which runs from now on."""
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        self.put(_text(self, record))

    def put(self, text: str) -> None:
        """Write a line, now or as soon as there is room for it. The caller holds this handler's lock."""
        if self._buffer.lost:
            self._write()  # first, so that this line is not lost if there is room again
        self._buffer.put(_encode(text))
        self._write()

    def flush(self) -> None:
        """Write all lines that can be written now."""
        with self.lock or contextlib.nullcontext():
            self._write()

    def finish(self) -> None:
        """Write the rest at the end of the process; wait up to FINAL_FLUSH_TIMEOUT for a slow reader."""
        deadline = time.monotonic() + FINAL_FLUSH_TIMEOUT
        with self.lock or contextlib.nullcontext():
            self._write()
            while self._buffer.size and (left := deadline - time.monotonic()) > 0:
                if not (self._full and self._output.wait(left)):  # a full disk is always ready but takes nothing
                    return
                self._write()

    # -- writing -----------------------------------------------------------------------------------------

    def _write(self) -> None:
        """Write as much as the output takes; schedule a retry for the rest."""
        if self._writing:  # a signal handler logs in the middle of a write: its line is already in the buffer
            return
        self._writing = True
        try:
            while head := self._buffer.head(ATOMIC):
                self._buffer.remove(self._output.write(head))
                if not self._buffer.size:
                    self._buffer.add_notice()
        except OSError as error:
            self._failed(error)
        finally:
            self._writing = False
        if self._buffer.size:
            self._retry_later()

    def _failed(self, error: OSError) -> None:
        self._full = isinstance(error, BlockingIOError)
        self._trouble = "standard error was not read" if self._full else f"standard error: {error.strerror}"
        # Any other error is a broken pipe or a closed descriptor: the lines can never be written.
        if error.errno not in (None, *TEMPORARY_ERRNOS):
            self._buffer.drop_all()

    def _retry_later(self) -> None:
        if self._loop is not None and not self._retry_delay:
            self._retry_delay = FIRST_RETRY_DELAY
            with contextlib.suppress(RuntimeError):  # the loop has been closed: `finish` will follow
                self._loop.call_soon_threadsafe(self._wait_and_retry)

    def _wait_and_retry(self) -> None:
        assert self._loop is not None
        self._loop.call_later(self._retry_delay, self._retry)

    def _retry(self) -> None:
        with self.lock or contextlib.nullcontext():
            delay = self._retry_delay
            before = self._buffer.size
            self._write()
            if not self._buffer.size:
                self._retry_delay = 0.0
                return
            self._retry_delay = FIRST_RETRY_DELAY if self._buffer.size < before else min(delay * 2, MAX_RETRY_DELAY)
            self._wait_and_retry()

    # -- own lines ---------------------------------------------------------------------------------------

    def _notice(self, lost: int) -> bytes:
        lines = "1 log line" if lost == 1 else f"{lost} log lines"
        text = f"lost {lines}: {self._trouble}"
        return _encode(self.format(_record("eggcluster.logs", logging.WARNING, text)))

    def _after_fork(self) -> None:
        """Reset in a forked child: the parent writes the waiting lines, and its loop does not run here."""
        self._buffer.clear()
        self._loop, self._writing, self._retry_delay = None, False, 0.0


class SharedOutputHandler(logging.Handler):
    """Writes its lines by another handler, in a format and from a level of its own: an application that changes those
    changes them for this handler alone."""

    def __init__(self, writer: LogHandler) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        text = _text(self, record)
        with self._writer.lock or contextlib.nullcontext():
            self._writer.put(text)


def _text(handler: logging.Handler, record: logging.LogRecord) -> str:
    try:
        return handler.format(record)
    except Exception as error:  # the caller's mistake: arguments that do not fit, a __str__ that raises
        return handler.format(_misuse(record, error))


def _misuse(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    """Return one line on an invalid logging call. logging itself would print to standard error, and block there."""
    text = f"invalid logging call at {record.pathname}:{record.lineno}: {type(error).__name__}"
    with contextlib.suppress(Exception):
        text += f": {error}: {record.msg!r} with {record.args!r}"
    return _record(record.name, logging.ERROR, one_line(text))


def _record(name: str, level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 0, text, None, None)


def _encode(text: str) -> bytes:
    return f"{text}\n".encode("utf-8", "backslashreplace")
