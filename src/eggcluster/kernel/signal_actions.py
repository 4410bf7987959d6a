"""Signals as the kernel has them: inherited settings, actions, the two meanings of SIGHUP. In master and workers.

uvloop, which waits for child processes by SIGCHLD, sets its handler in C.

The kernel sends SIGHUP to the owner of a terminal that closes, and a shell passes it on to its jobs. From any other
sender it asks for a reload. A signal handler does not learn the sender; sigwaitinfo(2) returns it.
"""

import os
import signal
import threading
import time
from collections.abc import Callable


def reset_inherited_signals() -> None:
    """Block no signal, and have SIGCHLD as it is by default; nothing else is touched.

    A blocked SIGTERM would close nothing, an ignored SIGCHLD takes the exit codes of all children away (waitpid(2)):
    both outlive execve(2). What else is ignored stays so: nohup's SIGHUP is meant.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def is_ignored(number: int) -> bool:
    """Whether the kernel drops it (sigaction(2), SIG_IGN)."""
    mask = _mask("SigIgn")
    return bool(mask & _bit(number)) if mask is not None else signal.getsignal(number) is signal.SIG_IGN


def is_handled(number: int) -> bool:
    """Return whether the signal has a handler."""
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


SI_KERNEL = 0x80  # sigaction(2); "the terminal has gone" is all that the kernel says with a SIGHUP
SHELLS_END = 0.5  # seconds: a shell that ends tells its jobs first, and takes its session's terminal with it then


def has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def follow_hang_ups(tell: Callable[[bool], None]) -> bool:
    """From now on a thread calls `tell` for each SIGHUP: whether it is the terminal's end. It has to be blocked for
    that in this thread, and in those that it starts, for the rest of the process. To be called in the main thread.

    False: SIGHUP is left alone, because there is no terminal that could go, or no sigwaitinfo(2) (macOS).
    """
    if not hasattr(signal, "sigwaitinfo") or not has_terminal():
        return False
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    threading.Thread(target=_follow, args=(tell,), name="egg-hang-up", daemon=True).start()
    return True


def _follow(tell: Callable[[bool], None]) -> None:
    while True:
        tell(_is_terminals_end(signal.sigwaitinfo({signal.SIGHUP})))


def _is_terminals_end(info: signal.struct_siginfo) -> bool:
    if info.si_code == SI_KERNEL:
        return True
    if info.si_pid != os.getsid(0):
        return False  # also where the terminal has gone long ago, and the process was to stay
    deadline = time.monotonic() + SHELLS_END  # the leader of the session, so the shell; or its `kill -HUP %1`
    while has_terminal():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
