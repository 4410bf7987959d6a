"""How much memory a process holds. Runs in the master."""

import os

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Its resident set (proc(5), statm); 0 where it has gone."""
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
