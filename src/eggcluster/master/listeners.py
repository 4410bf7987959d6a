"""The listening sockets: bound and held by the master for its whole life, so that a worker's death closes none."""

import contextlib
import errno
import logging
import os
import socket
import stat
import sys
from dataclasses import dataclass, field

from eggcluster.errors import OptionsError
from eggcluster.ipc.boot_order import Listener
from eggcluster.kernel.inherited import SD_LISTEN_FDS_START
from eggcluster.kernel.reuseport import attach_steering
from eggcluster.model.steering import encode, steer_to
from eggcluster.options import ClusterOptions
from eggcluster.options.near import shown

_logger = logging.getLogger("eggcluster.master")


@dataclass
class Listeners:
    """Every listening socket, by slot or shared by all, and the address that people are told.

    With several workers on Linux each slot has a listener of its own in one SO_REUSEPORT group. Their index in the
    group is the order in which they were put to listen, slot 1 first; it stays so for the master's life. Elsewhere
    the workers share one listener.
    """

    own: list[socket.socket] = field(default_factory=list)  # one a slot; empty where they share
    shared: list[socket.socket] = field(default_factory=list)
    debug: list[socket.socket] = field(default_factory=list)  # plain beside TLS, shared
    tls: bool = False
    cluster_socket: socket.socket | None = None
    uds: str | None = None
    uds_inode: int = 0
    # Noted once: the status tells them also while closing, when the sockets are no more.
    address: str = ""
    port: int | None = None  # None for a Unix socket
    steered: bool = False  # the kernel knows which slots are there for new connections

    def of_slot(self, slot: int) -> list[Listener]:
        """What the worker of `slot` inherits."""
        main = [self.own[slot - 1]] if self.own else self.shared
        return [Listener(s.fileno(), self.tls) for s in main] + [Listener(s.fileno(), False) for s in self.debug]

    def address_of(self, slot: int) -> str:
        """The address that the worker of `slot` listens at, as a URL."""
        return _url(self.own[slot - 1] if self.own else self.shared[0], self.tls)

    @property
    def cluster_port(self) -> int:
        """The port that is kept for the agent's followers."""
        return int(self.cluster_socket.getsockname()[1]) if self.cluster_socket else 0

    def steer(self, slots: list[int]) -> None:
        """Only `slots` get new connections from now on; with listeners that are no group, or on a kernel that does
        not take a program, nothing changes."""
        if not self.steered:
            return
        try:
            attach_steering(self.own[0], encode(steer_to(slots)))
        except OSError as error:
            self.steered = False
            _logger.warning("the kernel does not steer (%s): a slot without a worker keeps its connections", error)

    def close(self) -> None:
        """Close the master's own copies and remove the Unix socket's file; may be called again."""
        for sock in (*self.own, *self.shared, *self.debug):
            sock.close()
        if self.cluster_socket:
            self.cluster_socket.close()
        if self.uds:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self.uds).st_ino == self.uds_inode:
                    os.unlink(self.uds)


def detect_ports(options: ClusterOptions) -> Listeners:
    """Bind and listen on everything that the options ask for. OptionsError for what cannot be had; then nothing
    stays open."""
    listeners = Listeners(tls=options.https_cert is not None)
    try:
        _bind_main(listeners, options)
        if options.debug_port is not None:
            listeners.debug.append(_listen(options, options.debug_port, "debug_port"))
        listeners.cluster_socket = _bind("127.0.0.1", 0, "host")
        for sock in (*listeners.own, *listeners.shared, *listeners.debug):
            sock.listen(options.backlog)
        _note_address(listeners)
    except OSError as error:
        listeners.close()
        raise OptionsError(f"the listening sockets cannot be had: {error.strerror or error}") from None
    except BaseException:
        listeners.close()
        raise
    return listeners


def _note_address(listeners: Listeners) -> None:
    """The cluster's address is its first listener's."""
    first = listeners.own[0] if listeners.own else listeners.shared[0]
    listeners.address = _url(first, listeners.tls)
    listeners.port = first.getsockname()[1] if first.family != socket.AF_UNIX else None


def _bind_main(listeners: Listeners, options: ClusterOptions) -> None:
    if options.listen_fds:
        fds = range(SD_LISTEN_FDS_START, SD_LISTEN_FDS_START + options.listen_fds)
        listeners.shared += [_inherited(fd, "LISTEN_FDS") for fd in fds]
    elif options.fd is not None:
        listeners.shared.append(_inherited(options.fd, "fd"))
    elif options.uds is not None:
        listeners.shared.append(_bind_unix(options.uds))
        listeners.uds, listeners.uds_inode = options.uds, os.stat(options.uds).st_ino
    elif options.ports:
        for port in options.ports:
            listeners.own.append(_listen(options, port, "ports"))
    else:
        assert options.port is not None  # parse_options has filled it in
        first = _listen(options, options.port, "port")
        if options.workers > 1 and sys.platform.startswith("linux"):
            listeners.own += _group(first, options.workers)
            listeners.steered = True
        else:
            listeners.shared.append(first)


def _group(first: socket.socket, count: int) -> list[socket.socket]:
    """`count` sockets of one SO_REUSEPORT group around the one that is bound already.

    The first listens already, without SO_REUSEPORT, so the kernel refused it where anybody at all holds the port,
    others that use SO_REUSEPORT included; only then it opens itself for its siblings. To be bound is not enough for
    that: with SO_REUSEADDR two may be, as long as neither listens, and both would then open themselves.
    """
    group = [first]
    try:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        while len(group) < count:
            sibling = socket.socket(first.family)
            group.append(sibling)
            sibling.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sibling.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sibling.bind(first.getsockname())
    except OSError:
        for sock in group:
            sock.close()
        raise
    return group


def _listen(options: ClusterOptions, port: int, option: str) -> socket.socket:
    """A socket that listens on the port; OptionsError where anybody else is bound to it or faster."""
    sock = _bind(options.host, port, option)
    try:
        sock.listen(options.backlog)
    except OSError as error:
        sock.close()
        raise OptionsError(_refused(options.host, port, option, error)) from None
    return sock


def _bind(host: str, port: int, option: str) -> socket.socket:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise OptionsError(f"host: {shown(host)} is no address of this machine ({error})") from None
    # "localhost" and "" give both families: the first IPv4 address, as the other servers do
    family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise OptionsError(_refused(host, port, option, error)) from None
    return sock


def _refused(host: str, port: int, option: str, error: OSError) -> str:
    host = shown(host)[1:-1]
    if error.errno == errno.EADDRINUSE:
        return f"{option}: {port} on {host} is taken by another process; free it or use another one (0: any free one)"
    if error.errno == errno.EACCES:
        return f"{option}: {port} on {host} is not allowed to this user; use one from 1024 on"
    if error.errno == errno.EADDRNOTAVAIL:
        return f'host: "{host}" is no address of this machine; use one of its own, or 0.0.0.0 for all'
    return f"{option}: {port} on {host} cannot be bound: {error.strerror}"


def _bind_unix(path: str) -> socket.socket:
    """A bound Unix socket; the file that a dead server left is replaced, anything else is not."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        if os.path.lexists(path):
            _clear_stale(path)
        sock.bind(path)
        os.chmod(path, 0o666)  # a balancer runs as another user: uvicorn's and gunicorn's rule
    except OSError as error:
        sock.close()
        raise OptionsError(f'uds: "{path}" cannot be bound: {error.strerror or error}') from None
    except OptionsError:
        sock.close()
        raise
    return sock


def _clear_stale(path: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OptionsError(f'uds: "{path}" exists and is no socket; remove it or use another path')
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # an owner that is stopped, its backlog full, would keep us waiting
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise OptionsError(f'uds: "{path}" is taken by another process; stop it or use another path')


def _inherited(fd: int, option: str) -> socket.socket:
    try:
        with socket.socket(fileno=fd) as given:
            sock = given.dup()
            given.detach()  # the number stays the giver's
    except OSError as error:
        raise OptionsError(f"{option}: {fd} is no socket that can be listened on: {error.strerror}") from None
    return sock


def _url(sock: socket.socket, tls: bool) -> str:
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{host}:{port}"
