"""Passes connections between the master and a worker (SCM_RIGHTS, unix(7)). Runs in master and app workers.

A request may go with its connection: what was read of it, and of those behind it. A long one goes in a memory file.
A worker may get a direct socket to another one: a copy of the end at which that one's connections go in.
"""

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from eggcluster.kernel.memory import memory_file

# Keeps messages apart, and holds 278 of them with Linux's default buffer. macOS has no SEQPACKET for Unix sockets.
_KIND = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
_ROOM = socket.CMSG_SPACE(2 * struct.calcsize("i"))
_PLAIN, _TLS, _REQUEST, _FILED, _DIRECT = (bytes([kind]) for kind in range(5))
INLINE_BYTES = 32 * 1024  # of a request that goes in the message; two or three messages of that size fill the socket
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # macOS has none
_TRUNCATED = int(socket.MSG_CTRUNC)  # a plain number: a look at an IntFlag costs as much as a system call
_FLAGS = _CLOEXEC | socket.MSG_DONTWAIT  # the sockets are non-blocking already, but the other side can undo that
# The worker does not read fast enough, or too many descriptors of this user are in transit (RLIMIT_NOFILE).
_FULL = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS}


class Handed(NamedTuple):
    """A connection that was passed on: whether it is to speak TLS, and the request that goes with it, if any. With
    `direct_to`, it is no client's, but the direct socket to the worker of that name."""

    connection: socket.socket
    tls: bool
    request: bytes = b""
    direct_to: bytes = b""


class Handover:
    """The master's side of the socket pair on which one worker gets its connections, and gives away those that belong
    to others. It keeps the worker's end, too, to take back what a dead or stuck worker has not read. The process that
    reads a connection owns it; no other process can read it. `name` is what other workers know the worker by; empty if
    none gets a direct socket to it."""

    def __init__(self, name: bytes = b"") -> None:
        self.name = name
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, _KIND)
        self._ours.setblocking(False)
        self._theirs.setblocking(False)

    @property
    def worker_fd(self) -> int:
        """The file descriptor of the end that the worker inherits."""
        return self._theirs.fileno()

    @property
    def master_end(self) -> socket.socket:
        """The end at which the worker gives connections away."""
        return self._ours

    def send(self, connection: socket.socket, *, tls: bool = False, request: bytes = b"") -> bool:
        """Pass a connection on to the worker; see `pass_on`."""
        return pass_on(self._ours, connection.fileno(), tls=tls, request=request)

    def send_direct(self, other: "Handover") -> None:
        """Give the worker a direct socket to another one. A worker that cannot take it now does without.

        Only on Linux: elsewhere it is not certain that `seal` keeps out what comes on it.
        """
        if other.name and sys.platform == "linux":
            with contextlib.suppress(OSError):
                _send(self._ours, _DIRECT + other.name, other._ours.fileno())

    def seal(self) -> None:
        """Let nothing more in for the worker, not even over direct sockets: what can be taken back then is all. Senders
        get a BrokenPipeError."""
        with contextlib.suppress(OSError):
            self._theirs.shutdown(socket.SHUT_RD)

    def take_back(self, room: Callable[[], bool] = lambda: True) -> list[Handed]:
        """Return the connections that the worker has not received. Each takes a file descriptor: take no more once
        `room` returns False."""
        return _take(self._theirs, room)

    def collect(self, room: Callable[[], bool] = lambda: True, most: int | None = None) -> list[Handed]:
        """Return the connections that the worker has given away, at most `most`; `room` as for `take_back`."""
        return _take(self._ours, room, most)

    def close(self) -> None:
        """Close both ends, and the connections that are still between them. May be called again."""
        self.seal()
        with contextlib.suppress(OSError):
            for handed in receive(self._theirs):  # one by one: another process may hold the worker's end, too
                handed.connection.close()
        self._ours.close()
        self._theirs.close()


def pass_on(sock: socket.socket, connection: int, *, tls: bool = False, request: bytes = b"") -> bool:
    """Pass on the connection of this file descriptor, and the bytes of a request with it. The caller closes its own
    copy.

    Return False if there is no room at the moment; OSError if there never will be, because the other side has shut its
    end down, or has closed it.
    """
    try:
        if len(request) > INLINE_BYTES:
            return _pass_on_filed(sock, connection, request)
        message = _REQUEST + request if request else _TLS if tls else _PLAIN
        _send(sock, message, connection)
    except OSError as error:
        if error.errno in _FULL:
            return False
        raise
    return True


def _pass_on_filed(sock: socket.socket, connection: int, request: bytes) -> bool:
    file = memory_file("egg-request", len(request))
    try:
        written = 0
        while written < len(request):
            written += os.pwrite(file, request[written:], written)
        _send(sock, _FILED, connection, file)
    finally:
        os.close(file)
    return True


def _send(sock: socket.socket, message: bytes, *fds: int) -> None:
    sock.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))])


def _take(sock: socket.socket, room: Callable[[], bool], most: int | None = None) -> list[Handed]:
    taken: list[Handed] = []
    with contextlib.suppress(OSError):  # too many open files: the kernel has dropped the connection
        waiting = receive(sock, most)
        while room() and (each := next(waiting, None)) is not None:
            if each.direct_to:
                each.connection.close()
            else:
                taken.append(each)
    return taken


def receive(sock: socket.socket, most: int | None = None) -> Iterator[Handed]:
    """Yield the connections that wait at an end, at most `most` of them. They are non-blocking. OSError if a connection
    was lost because it exceeds the limit of open files (RLIMIT_NOFILE); BrokenPipeError if an end is shut down and no
    connections will follow."""
    while most is None or most > 0:
        try:
            message, rights, flags, _ = sock.recvmsg(1 + INLINE_BYTES, _ROOM, _FLAGS)
        except (BlockingIOError, ConnectionResetError):
            return
        if not message:
            raise BrokenPipeError(errno.EPIPE, "the handover is shut down")
        fds = [fd for _, _, data in rights for (fd,) in struct.iter_unpack("i", data)]
        kind, request = message[:1], message[1:]
        if flags & _TRUNCATED or len(fds) != (2 if kind == _FILED else 1):
            for fd in fds:
                os.close(fd)
            raise OSError(errno.EMFILE, "a connection was lost: too many open files")
        if kind == _FILED:
            request = _read_file(fds[1])
        connection = socket.socket(fileno=fds[0])
        connection.setblocking(False)
        if not _CLOEXEC:
            connection.set_inheritable(False)
        yield (
            Handed(connection, False, direct_to=request)
            if kind == _DIRECT
            else Handed(connection, kind == _TLS, request)
        )
        if most is not None:
            most -= 1


def _read_file(fd: int) -> bytes:
    try:
        size, content = os.fstat(fd).st_size, bytearray()
        while len(content) < size:
            content += os.pread(fd, size - len(content), len(content))
        return bytes(content)
    finally:
        os.close(fd)
