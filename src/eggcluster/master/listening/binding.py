"""Binding the listening sockets before anything is started; an error is one line. Runs in the master."""

import contextlib
import errno
import logging
import os
import socket
import stat
import sys

from eggcluster.errors import OptionsError
from eggcluster.kernel.inherited_sockets import SD_LISTEN_FDS_START
from eggcluster.kernel.unix_socket import bind_unix, bind_with_mode
from eggcluster.master.listening.acceptor import Acceptor
from eggcluster.master.listening.key_steering import KeySteering
from eggcluster.master.listening.listeners import By, Endpoint, Listeners, unlink_own
from eggcluster.model.steering.key_source import key_ways
from eggcluster.model.steering.steering_plan import Steering
from eggcluster.options import ResolvedOptions
from eggcluster.runtime.runtime_dir import unusable
from eggcluster.wording import shown

CLUSTER_BACKLOG = 4096  # connections that wait for an agent, one from each worker; as the kernel's limit (somaxconn)

_logger = logging.getLogger("eggcluster.master")


def detect_ports(options: ResolvedOptions, cluster_port: str) -> Listeners:
    """Bind and listen at every address of the options, and at the path `cluster_port` for the agent. OptionsError if
    one of them cannot be bound; then nothing stays open."""
    with contextlib.ExitStack() as on_failure:
        try:
            listeners = _bind_all(options, cluster_port, on_failure)
        except OSError as error:
            raise OptionsError(f"the listening sockets cannot be opened: {error.strerror or error}") from None
        on_failure.pop_all()
    return listeners


def _bind_all(options: ResolvedOptions, cluster_port: str, on_failure: contextlib.ExitStack) -> Listeners:
    endpoints = _bind_main(options, on_failure)
    if options.debug_port is not None:
        endpoints.append(_endpoint(options, options.debug_port, "debug_port"))
        on_failure.callback(endpoints[-1].close)
    cluster_socket = on_failure.enter_context(_listen_for_agent(cluster_port))
    for endpoint in endpoints:
        for sock in endpoint.sockets:
            sock.listen(options.backlog)
    steering = Steering(options.workers, sticky=options.sticky, hold=options.sticky_hold)
    by, refused = _choose_steering(endpoints, steering, options)
    keys = KeySteering(options.workers, options.sticky_hold) if key_ways(options.sticky_by) else None
    return Listeners(
        endpoints=endpoints,
        by=by,
        sticky=options.sticky,
        refused=refused,
        steering=steering if by in ("bpf", "acceptor") else None,
        acceptor=Acceptor(options.backlog, keys),
        keys=keys,
        cluster_socket=cluster_socket,
        cluster_port=cluster_port,
        uds=options.uds if not options.listen_fds and options.fd is None else None,
        uds_mode=options.uds_mode,
    )


def _bind_main(options: ResolvedOptions, on_failure: contextlib.ExitStack) -> list[Endpoint]:
    """Bind the cluster's own endpoints: all but the debug port."""
    tls = options.https_cert is not None
    if options.listen_fds:
        fds = range(SD_LISTEN_FDS_START, SD_LISTEN_FDS_START + options.listen_fds)
        return [Endpoint([on_failure.enter_context(_inherited(fd, "LISTEN_FDS"))], tls) for fd in fds]
    if options.fd is not None:
        return [Endpoint([on_failure.enter_context(_inherited(options.fd, "fd"))], tls)]
    if options.uds is not None:
        sock = on_failure.enter_context(bind_uds(options.uds, options.uds_mode))
        on_failure.callback(unlink_own, options.uds, os.stat(options.uds).st_ino)
        return [Endpoint([sock], tls)]
    if options.ports:
        return [Endpoint([on_failure.enter_context(_listen(options, port, "ports")) for port in options.ports], tls)]
    assert options.port is not None  # parse_options has filled it in
    endpoint = _endpoint(options, options.port, "port", tls=tls)
    on_failure.callback(endpoint.close)
    return [endpoint]


def _choose_steering(endpoints: list[Endpoint], steering: Steering, options: ResolvedOptions) -> tuple[By, str | None]:
    """Return how connections reach the workers, and why the kernel refused to steer them, if it did."""
    if options.workers == 1:
        return "single", None
    refused = None
    if any(endpoint.is_group for endpoint in endpoints):
        try:
            _try_kernel(endpoints, steering)
            return "bpf", None
        except OSError as error:
            refused = error.strerror or str(error)
            _share_all(endpoints, refused, sticky=options.sticky)
    if options.ports:
        return "ports", refused
    if not options.sticky:
        return "shared", refused
    _check_addresses(endpoints, options)
    return "acceptor", refused


def _try_kernel(endpoints: list[Endpoint], steering: Steering) -> None:
    """Attach the longest possible program, then the first real one. OSError if the kernel refuses."""
    for plan in (steering.longest(), steering.plan):
        for endpoint in endpoints:
            endpoint.steer(plan)


def _share_all(endpoints: list[Endpoint], why: str, *, sticky: bool) -> None:
    for endpoint in endpoints:
        if endpoint.is_group:
            endpoint.share()
    instead = "the master accepts and hands over" if sticky else "the workers share one listener"
    _logger.warning("the kernel does not take the steering program (%s): %s", why, instead)


def _check_addresses(endpoints: list[Endpoint], options: ResolvedOptions) -> None:
    for sock in (sock for endpoint in endpoints for sock in endpoint.sockets):
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            given = "LISTEN_FDS" if options.listen_fds else "fd"
            raise OptionsError(
                f"sticky: the socket of {given} is a Unix socket, and its clients have no addresses; "
                "leave sticky out, or give each worker its own port (ports) and let the proxy choose"
            )


def _endpoint(options: ResolvedOptions, port: int, option: str, *, tls: bool = False) -> Endpoint:
    """Return the listeners at one port: a group that the kernel can steer, if it is to steer, else one listener."""
    first = _listen(options, port, option)
    accepted_by_master = options.sticky and options.sticky_via == "acceptor"
    if options.workers == 1 or accepted_by_master or not sys.platform.startswith("linux"):
        return Endpoint([first], tls)
    return Endpoint(_group(first, options.workers), tls, is_group=True)


def _group(first: socket.socket, count: int) -> list[socket.socket]:
    """Return `count` sockets of one SO_REUSEPORT group: `first`, which listens already, and siblings for it.

    `first` began to listen without SO_REUSEPORT, which the kernel refuses if another process holds the port, even with
    SO_REUSEPORT. Only now it gets that option, so that siblings can join it. If it were only bound, that would not be
    safe: with SO_REUSEADDR two sockets may be bound to a port while neither listens, and both would get siblings.
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


def _listen(options: ResolvedOptions, port: int, option: str) -> socket.socket:
    """Return a socket that listens at the port; OptionsError if it cannot be bound."""
    sock = _bind(options, port, option)
    try:
        sock.listen(options.backlog)
    except OSError as error:
        sock.close()
        raise OptionsError(_refused(options, port, option, error)) from None
    return sock


def _bind(options: ResolvedOptions, port: int, option: str) -> socket.socket:
    host = options.host
    try:
        return bind_tcp(host, port)
    except (socket.gaierror, UnicodeError) as error:
        why = f"is not an address of this machine ({error})"
        raise OptionsError(f"{options.name_of('host')}: {shown(host)} {why}{_unset_host(options)}") from None
    except OSError as error:
        raise OptionsError(_refused(options, port, option, error)) from None


def bind_tcp(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to this address. gaierror or UnicodeError if the host is no address of this
    machine; OSError of bind(2)."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # "localhost" and "" give both families: take the first IPv4 address, as other servers do
    family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _unset_host(options: ResolvedOptions) -> str:
    """Return a hint if the host comes from the environment: there conda's compilers leave the machine's type."""
    given = options.name_of("host") == "HOST"
    return "; it is the environment variable HOST: unset it, or name the address with --host" if given else ""


def _refused(options: ResolvedOptions, port: int, field: str, error: OSError) -> str:
    host, option = shown(options.host)[1:-1], options.name_of(field)
    if error.errno == errno.EADDRINUSE:
        return f"{option}: {port} on {host} is taken by another process; free it or use another one (0: any free one)"
    if error.errno == errno.EACCES:
        return f"{option}: this user may not bind {port} on {host}; use a port from 1024 on"
    if error.errno == errno.EADDRNOTAVAIL:
        why = "is not an address of this machine; use one of its own, or 0.0.0.0 for all"
        return f'{options.name_of("host")}: "{host}" {why}{_unset_host(options)}'
    return f"{option}: {port} on {host} cannot be bound: {error.strerror}"


def _listen_for_agent(path: str) -> socket.socket:
    """Return the socket of the cluster port. It listens as long as the master lives: a worker that connects while there
    is no agent waits in its queue for the next agent. Only the cluster's owner can open it, because its directory is
    private."""
    try:
        with contextlib.ExitStack() as on_failure:
            sock = on_failure.enter_context(bind_unix(path))
            os.chmod(path, 0o600)
            sock.listen(CLUSTER_BACKLOG)
            on_failure.pop_all()
    except OSError as error:
        raise unusable(os.path.dirname(path), error) from None
    return sock


def bind_uds(path: str, mode: int | None, option: str = "uds") -> socket.socket:
    """Return a bound Unix socket; its file has the permissions `mode`, None: 0666 less the umask. Only a file that a
    dead server left is replaced. OptionsError, with the name of the `option`, if it cannot be bound or is taken."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        if os.path.lexists(path):
            _clear_stale(path, option)
        bind_with_mode(sock, path, mode)
    except OSError as error:
        sock.close()
        raise OptionsError(f'{option}: "{path}" cannot be bound: {error.strerror or error}') from None
    except OptionsError:
        sock.close()
        raise
    return sock


def _clear_stale(path: str, option: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OptionsError(f'{option}: "{path}" exists and is not a socket; remove it or use another path')
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # connecting to a stopped owner with a full backlog would block
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise OptionsError(f'{option}: "{path}" is taken by another process; stop it or use another path')


def _inherited(fd: int, option: str) -> socket.socket:
    try:
        with socket.socket(fileno=fd) as given:
            sock = given.dup()
            given.detach()  # do not close the given descriptor
    except OSError as error:
        raise OptionsError(f"{option}: {fd} is not a socket: {error.strerror}; pass on a listening one") from None
    return sock
