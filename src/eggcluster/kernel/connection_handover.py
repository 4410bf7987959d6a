"""Accepted connections on their way from the master to a worker (SCM_RIGHTS, unix(7)). Master and app workers."""

import contextlib
import errno
import socket
import struct
import sys
from collections.abc import Iterator

# Keeps messages apart, and holds 278 of them with Linux's default buffer. macOS has no SEQPACKET for Unix sockets.
_KIND = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
_ROOM = socket.CMSG_SPACE(struct.calcsize("i"))
_PLAIN, _TLS = b"\0", b"\1"
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # macOS has none
_FLAGS = _CLOEXEC | socket.MSG_DONTWAIT  # non-blocking is set already, but the other side may unset it for both
# The worker does not read fast enough, or too many descriptors of this user are under way (RLIMIT_NOFILE).
_FULL = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS}


class Handover:
    """The master's side of one worker's. It keeps the worker's end, too: what the worker has not read, dead or stuck
    as it may be, can be taken back. The process that reads a connection owns it; no other can read it."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, _KIND)
        self._ours.setblocking(False)
        self._theirs.setblocking(False)

    @property
    def worker_fd(self) -> int:
        """The end that the worker inherits."""
        return self._theirs.fileno()

    def send(self, connection: socket.socket, *, tls: bool) -> bool:
        """Pass a connection on; the caller's own copy is the caller's to close. False where there is no room now,
        OSError where there never will be: the worker has shut its end down."""
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", connection.fileno()))
        try:
            self._ours.sendmsg([_TLS if tls else _PLAIN], [rights])
        except OSError as error:
            if error.errno in _FULL:
                return False
            raise
        return True

    def take_back(self) -> list[tuple[socket.socket, bool]]:
        """What the worker has not received: each connection, and whether it is to speak TLS."""
        taken: list[tuple[socket.socket, bool]] = []
        with contextlib.suppress(OSError):  # too many open files: what is lost is lost
            for each in receive(self._theirs):
                taken.append(each)
        return taken

    def close(self) -> None:
        """Give both ends up; what is still between them is closed. May be called again."""
        self._ours.close()
        self._theirs.close()


def receive(sock: socket.socket, most: int | None = None) -> Iterator[tuple[socket.socket, bool]]:
    """The connections, non-blocking ones, that wait at a worker's end, `most` of them at most; and whether they are to
    speak TLS. One that does not fit under the limit of open files (RLIMIT_NOFILE) is lost: OSError. BrokenPipeError:
    an end is shut down, none will come any more."""
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
