"""Passes accepted connections from the master to a worker (SCM_RIGHTS, unix(7)). Runs in master and app workers."""

import contextlib
import errno
import socket
import struct
import sys
from collections.abc import Callable, Iterator

# Keeps messages apart, and holds 278 of them with Linux's default buffer. macOS has no SEQPACKET for Unix sockets.
_KIND = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
_ROOM = socket.CMSG_SPACE(struct.calcsize("i"))
_PLAIN, _TLS = b"\0", b"\1"
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # macOS has none
_FLAGS = _CLOEXEC | socket.MSG_DONTWAIT  # the sockets are non-blocking already, but the other side can undo that
# The worker does not read fast enough, or too many descriptors of this user are in transit (RLIMIT_NOFILE).
_FULL = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS}


class Handover:
    """The master's side of the socket pair on which one worker gets its connections. It keeps the worker's end, too, to
    take back what a dead or stuck worker has not read. The process that reads a connection owns it; no other process
    can read it."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, _KIND)
        self._ours.setblocking(False)
        self._theirs.setblocking(False)

    @property
    def worker_fd(self) -> int:
        """The file descriptor of the end that the worker inherits."""
        return self._theirs.fileno()

    def send(self, connection: socket.socket, *, tls: bool) -> bool:
        """Pass a connection on. The caller closes its own copy. Return False if there is no room at the moment; OSError
        if there never will be, because the worker has shut its end down."""
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", connection.fileno()))
        try:
            self._ours.sendmsg([_TLS if tls else _PLAIN], [rights])
        except OSError as error:
            if error.errno in _FULL:
                return False
            raise
        return True

    def take_back(self, room: Callable[[], bool] = lambda: True) -> list[tuple[socket.socket, bool]]:
        """Return the connections that the worker has not received, each with whether it is to speak TLS. Each takes a
        file descriptor: take no more once `room` returns False."""
        taken: list[tuple[socket.socket, bool]] = []
        with contextlib.suppress(OSError):  # too many open files: the kernel has dropped the connection
            waiting = receive(self._theirs)
            while room() and (each := next(waiting, None)) is not None:
                taken.append(each)
        return taken

    def close(self) -> None:
        """Close both ends, and the connections that are still between them. May be called again."""
        with contextlib.suppress(OSError):
            for connection, _ in receive(self._theirs):  # one by one: another process may hold the worker's end, too
                connection.close()
        self._ours.close()
        self._theirs.close()


def receive(sock: socket.socket, most: int | None = None) -> Iterator[tuple[socket.socket, bool]]:
    """Yield the connections that wait at a worker's end, at most `most` of them, each with whether it is to speak TLS.
    They are non-blocking. OSError if a connection was lost because it exceeds the limit of open files (RLIMIT_NOFILE);
    BrokenPipeError if an end is shut down and no connections will follow."""
    while most is None or most > 0:
        try:
            data, rights, flags, _ = sock.recvmsg(1, _ROOM, _FLAGS)
        except (BlockingIOError, ConnectionResetError):
            return
        if not data:
            raise BrokenPipeError(errno.EPIPE, "the handover is shut down")
        if not rights or flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, "a connection was lost: too many open files")
        connection = socket.socket(fileno=struct.unpack("i", rights[0][2])[0])
        connection.setblocking(False)
        if not _CLOEXEC:
            connection.set_inheritable(False)
        yield connection, data == _TLS
        if most is not None:
            most -= 1
