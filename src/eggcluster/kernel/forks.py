"""Forks of this process: a forked child holds every socket open that its parent had. Runs in all processes."""

import contextlib
import os
import socket
from typing import Any

_has_forked = False


def has_forked() -> bool:
    """Return whether this process has forked since this module was loaded, by os.fork or multiprocessing.

    A child that was started as a program, by subprocess, has no sockets of its parent and does not count.
    """
    return _has_forked


def shut_down(sock: Any) -> None:
    """End a connection in both directions, whoever else holds its socket: close(2) ends it with the last holder.

    `sock` may be the stand-in that a transport gives out.
    """
    with contextlib.suppress(OSError, ValueError), socket.socket(fileno=os.dup(sock.fileno())) as own:
        own.shutdown(socket.SHUT_RDWR)


def _forked() -> None:
    global _has_forked
    _has_forked = True


os.register_at_fork(after_in_parent=_forked)
