"""Unix sockets whose path may be longer than the 107 bytes that `sun_path` holds (unix(7)). Master and command line."""

import contextlib
import os
import socket
from collections.abc import Iterator


def bind_unix(path: str) -> socket.socket:
    """A socket bound at `path`; OSError as of bind(2)."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        with _short(path) as short:
            sock.bind(short)
    except BaseException:
        sock.close()
        raise
    return sock


def connect_unix(path: str) -> socket.socket:
    """A socket connected to the one at `path`; OSError as of connect(2)."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        with _short(path) as short:
            sock.connect(short)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    """Another name of the same file: by way of its directory's file descriptor, where there is /proc."""
    if len(os.fsencode(path)) <= 107 or not os.path.isdir("/proc/self/fd"):
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)
