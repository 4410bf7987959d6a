"""Writes to a file descriptor without ever waiting, whatever is at its other end. Runs in all processes.

The descriptor's mode is never changed: O_NONBLOCK belongs to the open file description, and so to every process that
shares it (open(2)), such as the user's shell.
"""

import contextlib
import os
import select
import socket
import stat

ATOMIC = 4096  # bytes: PIPE_BUF of Linux; up to this length, data is written in one piece (pipe(7))


class NonblockingOutput:
    """Writes to a file descriptor that other processes have, too. `write` may be called from any thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._sock: socket.socket | None = None
        self._own: int | None = None
        self._guarded = False
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            self._sock = socket.socket(fileno=os.dup(fd))
        elif stat.S_ISFIFO(mode) or os.isatty(fd):
            self._own = _reopen(fd)
            self._guarded = self._own is None

    def write(self, data: bytes) -> int:
        """Write what can be written at once; return the number of bytes. BlockingIOError if nothing can be written now;
        another OSError if the write failed."""
        if self._sock is not None:
            return self._sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if self._own is not None:
            return os.write(self._own, data)
        if not self._guarded:
            return os.write(self._fd, data)  # a file: a write may fail, but does not wait
        if not self.wait(0):
            raise BlockingIOError
        return os.write(self._fd, data[:ATOMIC])  # POLLOUT promises room for this much

    def wait(self, limit: float) -> bool:
        """Wait until something can be written, for `limit` seconds at most; False if nothing can."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(limit * 1000))

    def close(self) -> None:
        """Close what this object has opened. The file descriptor itself stays open."""
        if self._sock is not None:
            self._sock.close()
        if self._own is not None:
            os.close(self._own)


def _reopen(fd: int) -> int | None:
    """Open the same pipe or terminal again, for an open file description of our own; None if that is not allowed.

    It is not allowed after `su`, when the pipe or the terminal belongs to another user. O_NOCTTY: a worker leads a
    session without a terminal, so this one would become its controlling terminal, which sends Ctrl-C.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(f"/proc/self/fd/{fd}", flags)
    except OSError:
        return None


def write_at_once(fd: int, data: bytes) -> None:
    """Write as much of `data` to `fd` as can be written at once, and drop the rest. Raises nothing."""
    with contextlib.suppress(OSError, ValueError):
        output = NonblockingOutput(fd)
        try:
            output.write(data)
        finally:
            output.close()
