"""Signals in the kernel: inherited settings, actions, the two meanings of SIGHUP. Runs in master and workers.

The kernel is asked for the actions, because uvloop, which waits for child processes by SIGCHLD, sets its handler in C.

The kernel sends SIGHUP to the owner of a terminal that closes, and a shell passes it on to its jobs. From any other
sender it asks for a reload. A signal handler does not learn the sender; sigwaitinfo(2) returns it.
"""

import os
import signal
import threading
import time
from collections.abc import Callable


def reset_inherited_signals() -> None:
    """Unblock all signals, and give SIGCHLD its default action. Other actions stay as they are.

    A blocked SIGTERM would close nothing, and an ignored SIGCHLD takes the exit codes of all children away
    (waitpid(2)); both survive execve(2). Other ignored signals stay ignored: nohup ignores SIGHUP on purpose.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def is_ignored(number: int) -> bool:
    """Return whether the kernel drops the signal (sigaction(2), SIG_IGN)."""
    mask = _mask("SigIgn")
    return bool(mask & _bit(number)) if mask is not None else signal.getsignal(number) is signal.SIG_IGN


def is_handled(number: int) -> bool:
    """Return whether the signal has a handler."""
    mask = _mask("SigCgt")
    return bool(mask & _bit(number)) if mask is not None else callable(signal.getsignal(number))


def _bit(number: int) -> int:
    return 1 << (number - 1)


def _mask(name: str) -> int | None:
    """Return a signal mask of this process (proc_pid_status(5)); None if there is no /proc."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(name.encode()):
                    return int(line.split()[1], 16)
    except OSError:
        pass
    return None


SI_KERNEL = 0x80  # sigaction(2); with a SIGHUP from the kernel, it can only mean that the terminal has gone
SHELLS_END = 0.5  # seconds: a shell that ends signals its jobs first; its end then takes the session's terminal away


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def follow_hang_ups(tell: Callable[[bool], None]) -> bool:
    """Start a thread that calls `tell` for each SIGHUP, with whether it means the terminal's end. Call it in the main
    thread: SIGHUP is blocked there, and in threads that it starts later, for the rest of the process.

    Return False, with SIGHUP left alone, if there is no terminal that could go, or no sigwaitinfo(2) (macOS).
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
        return False  # also if the terminal has gone long ago, and the process was to stay
    # The sender leads the session, so it is the shell. It ends, or its user has typed `kill -HUP %1`.
    deadline = time.monotonic() + SHELLS_END
    while has_terminal():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
