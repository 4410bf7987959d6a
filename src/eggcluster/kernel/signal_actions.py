"""What a signal does to this process, whoever set it: Python knows only what was set by Python. Runs in the master.

uvloop, which waits for child processes by SIGCHLD, sets its handler in C.
"""

import signal


def is_ignored(number: int) -> bool:
    """Whether the kernel drops it (sigaction(2), SIG_IGN)."""
    mask = _mask("SigIgn")
    return bool(mask & _bit(number)) if mask is not None else signal.getsignal(number) is signal.SIG_IGN


def is_handled(number: int) -> bool:
    """Whether anybody has a handler for it."""
    mask = _mask("SigCgt")
    return bool(mask & _bit(number)) if mask is not None else callable(signal.getsignal(number))


def _bit(number: int) -> int:
    return 1 << (number - 1)


def _mask(name: str) -> int | None:
    """proc_pid_status(5); None where there is no /proc."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(name.encode()):
                    return int(line.split()[1], 16)
    except OSError:
        pass
    return None
