"""Checks of where a cluster listens, and of what a start mode cannot do. In the process that starts a cluster."""

import os
import stat
import sys
from collections.abc import Iterator, Sequence

from eggcluster.options.checks.files import no_place_for
from eggcluster.options.cluster_options import ResolvedOptions
from eggcluster.options.sources import Naming
from eggcluster.wording import shown

# sockaddr_un.sun_path with its final zero: unix(7) has 108 bytes, the BSDs and macOS 104.
UDS_MOST_BYTES = 107 if sys.platform == "linux" else 103


def check_ports(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """One port for each worker, and each once."""
    ports = options.ports
    if len(set(ports)) != len(ports):
        twice = sorted({port for port in ports if ports.count(port) > 1})
        yield f"{name('ports')}: {_listed(twice)} is there more than once; give each worker its own port"
    elif ports and len(ports) != options.workers:
        given = f"{len(ports)} ports for {options.workers} workers"
        yield f"{name('ports')}: {_listed(ports)} is {given}; give one port for each worker"


def check_fd(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """It is open, and a stream socket."""
    if options.fd is not None and (why := not_a_socket(options.fd)):
        yield f"{name('fd')}: {options.fd} {why}; name an inherited stream socket"


def check_uds(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """The kernel takes the path, and there is a directory for it."""
    if options.uds is None:
        return
    if (length := len(os.fsencode(options.uds))) > UDS_MOST_BYTES:
        yield f"{name('uds')}: {shown(options.uds)} has {length} bytes; a socket's path has {UDS_MOST_BYTES}"
    elif why := no_place_for(options.uds):
        yield f"{name('uds')}: {shown(options.uds)} {why}"


def check_sticky(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Clients have an address of their own, and the choice is ours."""
    if not options.sticky:
        return
    if options.uds is not None:
        yield (
            f"{name('sticky')}: with {name('uds')} all clients come from the proxy and have no address to go by; "
            "leave sticky out, or let the proxy choose by giving each worker its own port (ports)"
        )
    elif options.ports:
        yield (
            f"{name('sticky')}: with {name('ports')} each port is one worker already, and the client chooses the port; "
            "leave sticky out"
        )


def not_a_socket(fd: int) -> str:
    """Why nothing can be accepted from this descriptor, or nothing."""
    import socket

    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return "is not a socket"
    except OSError:
        return "is not open"
    view = socket.socket(fileno=fd)
    try:
        return "" if view.type == socket.SOCK_STREAM else "is not a stream socket"
    finally:
        view.detach()


def _listed(ports: Sequence[int]) -> str:
    return ",".join(map(str, ports)) if len(ports) <= 8 else f"{ports[0]},…,{ports[-1]}"


def check_recycling(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Memory is known of whole processes only."""
    if options.max_rss and options.start_mode != "process":
        yield (
            f"{name('max_rss')}: with {name('start_mode')} {options.start_mode} all workers share one process, and "
            "memory is known of whole processes only; use max_lifetime or max_requests"
        )
