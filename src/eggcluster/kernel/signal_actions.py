"""Signals in the kernel: inherited settings, actions, the two meanings of SIGHUP. Runs in master and workers.

The kernel is asked for the actions, because uvloop, which waits for child processes by SIGCHLD, sets its handler in C.

The kernel sends SIGHUP to the owner of a terminal that closes, and a shell passes it on to its jobs. From any other
sender it asks for a reload. A signal handler does not learn the sender; sigwaitinfo(2) returns it.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable


def reset_inherited_signals() -> None:
    """Unblock all signals, and give SIGCHLD its default action. Other actions stay as they are.

    A blocked SIGTERM would close nothing, and an ignored SIGCHLD takes the exit codes of all children away
    (waitpid(2)); both survive execve(2). Other ignored signals stay ignored: nohup ignores SIGHUP on purpose.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


# For its reads and writes at a terminal the kernel sends them to a process in the background, which they stop.
TERMINAL_SIGNALS = frozenset({signal.SIGTTIN, signal.SIGTTOU})


def block_terminal_signals() -> None:
    """Block SIGTTIN and SIGTTOU for good; call it before any thread is started, because a mask belongs to a thread.

    The kernel then does not send them for this process's own input and output (tcsetpgrp(3), termios(3)): a log line
    stops no master in the background, not even under `stty tostop`. One that a user sends waits for `follow_blocked`.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)


def unblock_signals() -> None:
    """Unblock all signals in this thread, which is a forked child's only one."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def signal_name(number: int) -> str:
    """Return "SIGTERM", or "signal 40" for a real-time signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


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


def follow_blocked(numbers: Iterable[int], tell: Callable[[signal.struct_siginfo], None]) -> bool:
    """Start a thread that calls `tell` for each of these signals. Call it in the main thread: they are blocked there,
    and in threads that it starts later, for the rest of the process.

    Return False, with the signals left alone, if there is no sigwaitinfo(2) (macOS).
    """
    if not hasattr(signal, "sigwaitinfo"):
        return False
    blocked = frozenset(numbers)
    signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    threading.Thread(target=_follow, args=(blocked, tell), name="egg-blocked-signals", daemon=True).start()
    return True


def _follow(numbers: frozenset[int], tell: Callable[[signal.struct_siginfo], None]) -> None:
    while True:
        tell(signal.sigwaitinfo(numbers))


def is_terminals_end(info: signal.struct_siginfo) -> bool:
    """Return whether a SIGHUP means that the terminal has gone. May take SHELLS_END seconds."""
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
