"""What a process inherits of its parent's signal settings, put right. Runs at the start of master and workers."""

import signal


def reset_inherited_signals() -> None:
    """Block no signal, and have SIGCHLD as it is by default; nothing else is touched.

    A blocked SIGTERM would close nobody, an ignored SIGCHLD takes the exit codes of all children away (waitpid(2)):
    both outlive execve(2). What else is ignored stays so: nohup's SIGHUP is meant.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
