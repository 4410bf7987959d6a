"""Unix sockets whose path may be longer than the 107 bytes that `sun_path` holds (unix(7)). Runs in all processes."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator


def bind_unix(path: str) -> socket.socket:
    """Return a socket that is bound to `path`. OSError of bind(2)."""
    return _open(path, socket.socket.bind)


def connect_unix(path: str, *, blocking: bool = True) -> socket.socket:
    """Return a socket that is connected to the one at `path`. OSError of connect(2).

    The connection waits in the listener's queue. If that queue is full, the call waits for room; without `blocking` it
    raises BlockingIOError.
    """
    return _open(path, socket.socket.connect, blocking=blocking)


def _open(path: str, act: Callable[[socket.socket, str], None], *, blocking: bool = True) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(blocking)
    try:
        with _short(path) as short:
            act(sock, short)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    """Yield a short name of the same file: through its directory's file descriptor, if there is /proc."""
    if len(os.fsencode(path)) <= 107 or not os.path.isdir("/proc/self/fd"):
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)
