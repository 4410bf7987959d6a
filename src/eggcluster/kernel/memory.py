"""Memory that outlives a process, and how much a process holds. Runs in the master."""

import contextlib
import ctypes
import fcntl
import os
import tempfile


def memory_file(name: str, size: int) -> int:
    """Make a file of `size` zero bytes in memory; return its file descriptor, which is not inheritable. `name` appears
    in /proc. OSError if the system refuses.

    On Linux the file cannot be made shorter, because a process that has mapped it would die of SIGBUS.
    """
    fd = _create(name)
    try:
        os.ftruncate(fd, size)
        _keep_from_shrinking(fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def _create(name: str) -> int:
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except AttributeError:  # macOS: an unnamed file serves as well, but has no seals
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


def _keep_from_shrinking(fd: int) -> None:
    with contextlib.suppress(AttributeError):  # macOS
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)


def keep_freed_memory(size: int) -> None:
    """Let the C library keep up to `size` freed bytes for the next allocations, large ones among them (mallopt(3)).

    By default glibc gives each block of 128 KiB and more back to the kernel, which then zeroes every page of the next
    one: of a relay of messages of 1 MiB that takes more than half of the time. Does nothing with another C library.
    """
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, size)
        libc.mallopt(_M_TRIM_THRESHOLD, size)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Return the size of a process's resident set (proc(5), statm); 0 if the process has gone."""
    if not os.path.isdir("/proc/self"):
        return _ask_psutil(pid)
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _ask_psutil(pid: int) -> int:
    import psutil  # macOS only: there is no /proc

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
