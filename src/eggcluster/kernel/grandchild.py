"""A fork whose child belongs to the grandparent. Runs in a template; Linux only.

The template forks an intermediate process, which forks the worker and ends. So the worker becomes a child of the
nearest subreaper above (prctl(2)): the master. Only the second fork is Python's: `os.register_at_fork` handlers run
once, and one of them that starts a thread makes no later fork unsafe. A raw clone(2) with CLONE_PARENT would need one
fork less, but goes past the C library's own handlers (pthread_atfork(3)).
"""

import contextlib
import ctypes
import mmap
import os
import struct

_ANSWER = struct.Struct("q")  # the worker's pid, or a negative errno; 0: the intermediate died before it knew


class Grandfork:
    """Forks children of this process's parent. Hold one for the life of the process."""

    def __init__(self) -> None:
        self._libc = ctypes.PyDLL(None, use_errno=True)  # holds the GIL, so that no Python runs between fork and _exit
        self._answer = mmap.mmap(-1, _ANSWER.size)  # shared with the intermediate

    def fork(self) -> int:
        """Return 0 in the new process, and its pid in this one, once the new process has its new parent. OSError if the
        system refuses."""
        _ANSWER.pack_into(self._answer, 0, 0)
        intermediate = self._libc.fork()
        if intermediate < 0:
            raise _error(ctypes.get_errno())
        if intermediate == 0 and self._fork_and_end() == 0:
            return 0
        # Its children have got their new parent before its end can be waited for.
        with contextlib.suppress(ChildProcessError):  # the application ignores SIGCHLD: the kernel has reaped it
            os.waitpid(intermediate, 0)
        (answer,) = _ANSWER.unpack_from(self._answer)
        if answer <= 0:
            raise _error(-answer) if answer else OSError("the process between died")
        return int(answer)

    def try_handlers(self) -> None:
        """Fork a process that ends at once, so that the C library's handlers of a fork have run. OSError if the system
        refuses."""
        pid = self._libc.fork()
        if pid < 0:
            raise _error(ctypes.get_errno())
        if pid == 0:
            os._exit(0)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)

    def _fork_and_end(self) -> int:
        """In the intermediate process: fork, and return only in the child, with 0."""
        try:
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 1)
        if pid == 0:
            return 0
        try:
            _ANSWER.pack_into(self._answer, 0, pid)
        finally:
            os._exit(0)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
