"""The cluster port: the Unix socket at which app workers connect to the agent. Runs in the agent.

The master holds the listener, so connections wait in it while the agent is replaced. But the socket's file can get lost
when the runtime directory is cleaned, and application code can close the listener. Then the agent binds a listener of
its own at the same path. A worker that connects while there is no agent is refused there, and tries again.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from eggcluster.kernel.inherited_sockets import InheritedFiles, InheritedSocket, inherited_socket
from eggcluster.kernel.listen_socket import is_shut
from eggcluster.kernel.unix_socket import bind_unix, connect_unix

FILE_CHECK_INTERVAL = 1.0  # seconds
BACKLOG = 4096  # as for the master's listener
ACCEPT_PAUSE = 1.0  # seconds without accepting when no file descriptor was left

_logger = logging.getLogger("eggcluster.cluster_client")


class ClusterPort:
    """Accepts in the running loop and keeps the file in place, until `close`. `take` gets each connection. `listener`
    is the master's; it is bound at `path`, a file with this `inode`."""

    def __init__(self, listener: InheritedSocket, path: str, inode: int, take: Callable[[socket.socket], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners = [listener]
        self._inherited = InheritedFiles([listener.fileno()])
        self._path = path
        self._known = {inode}  # inodes of the files that may stay at the path
        self._take = take
        self._complained = False
        self._accept_at(listener)
        self._check()

    def close(self) -> None:
        """Accept no more: new connections wait for the next agent. May be called again."""
        self._next_check.cancel()
        self._inherited.close()
        while self._listeners:
            self._close(self._listeners.pop())

    def _accept_at(self, listener: InheritedSocket) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: InheritedSocket) -> None:
        listener.setblocking(False)  # it was so, but application code may have changed that
        try:
            while True:
                self._take(listener.accept()[0])
        except BlockingIOError:
            pass
        except OSError as error:
            _logger.error("followers have to wait: %s", error)
            self._loop.remove_reader(listener)
            self._loop.call_later(ACCEPT_PAUSE, self._accept_at, listener)

    def _replace(self, listener: InheritedSocket) -> None:
        """Bind another listener at the path: the application has shut this one down, or closed it."""
        _logger.error("the socket at %s was closed by the application", self._path)
        self._listeners.remove(listener)
        self._close(listener)
        self._bind_anew()

    def _close(self, listener: InheritedSocket) -> None:
        if not listener.is_taken:
            self._loop.remove_reader(listener)
        listener.close()

    # -- the file ------------------------------------------------------------------------------------------

    def _check(self) -> None:
        self._next_check = self._loop.call_later(FILE_CHECK_INTERVAL, self._check)
        for fd in self._inherited.put_back()[0]:
            _logger.error("the application has closed file descriptor %d, the socket at %s: put back", fd, self._path)
        for lost in [listener for listener in self._listeners if listener.is_lost or is_shut(listener)]:
            self._replace(lost)
        if not self._is_in_place():
            self._bind_anew()

    def _bind_anew(self) -> None:
        try:
            listener = self._bind()
        except OSError as error:
            if not self._complained:
                self._complained = True
                text = "%s is gone and cannot be bound anew (%s): new app workers cannot connect; restart the cluster"
                _logger.error(text, self._path, error.strerror or error)
            return
        self._complained = False
        self._listeners.append(listener)
        self._accept_at(listener)
        _logger.warning("%s was gone, it is bound anew", self._path)

    def _is_in_place(self) -> bool:
        try:
            inode = os.stat(self._path).st_ino
        except OSError:
            return False
        if inode not in self._known and _is_answered(self._path):
            self._known.add(inode)  # another cluster's, which has taken over the directory
            _logger.error("%s is another cluster's now: new app workers do not reach this agent", self._path)
        return inode in self._known

    def _bind(self) -> InheritedSocket:
        """Return a new listener at the path; replace a file that an earlier agent left there."""
        folder = os.stat(os.path.dirname(self._path))
        if folder.st_uid != os.geteuid() or folder.st_mode & 0o077:
            raise PermissionError(f"{os.path.dirname(self._path)} is not private any more")
        if os.path.lexists(self._path):
            os.unlink(self._path)
        listener = bind_unix(self._path)
        try:
            os.chmod(self._path, 0o600)
            listener.listen(BACKLOG)
            self._known = {os.stat(self._path).st_ino}
        except OSError:
            listener.close()
            raise
        return inherited_socket(listener.detach())


def _is_answered(path: str) -> bool:
    """Return whether a process listens at `path`."""
    try:
        connect_unix(path, blocking=False).close()
    except BlockingIOError:
        return True  # its queue is full
    except OSError:
        return False
    return True
