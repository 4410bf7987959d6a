"""Unix sockets whose path may be longer than the 107 bytes that `sun_path` holds (unix(7)). Runs in all processes."""

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple


class Peer(NamedTuple):
    """The process at the other end: of a connecting socket, the process that listens. `pid` is 0 if it has none in
    this process's namespace."""

    pid: int
    uid: int


def peer_of(sock: socket.socket) -> Peer | None:
    """Return the process at the other end of a connected socket (SO_PEERCRED, unix(7)); None where only Linux knows."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return Peer(pid, uid)


def bind_with_mode(sock: socket.socket, path: str, mode: int | None) -> None:
    """Bind a socket, so that its file has the permissions `mode`; None: 0666, less the umask. OSError of bind(2).

    Until listen(2) each connection is refused, so no client comes in before the file has its mode.
    """
    with contextlib.suppress(OSError):  # only Linux takes the mode of the socket itself (unix_bind, net/unix/af_unix.c)
        os.fchmod(sock.fileno(), 0o666 if mode is None else mode)
    sock.bind(path)
    if mode is not None:
        _change_mode(path, mode)


def _change_mode(path: str, mode: int) -> None:
    """Change the mode of a socket's file. chmod(2) would follow a link that has taken its place."""
    if not hasattr(os, "O_PATH") or not os.path.isdir("/proc/self/fd"):
        os.chmod(path, mode)
        return
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


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
