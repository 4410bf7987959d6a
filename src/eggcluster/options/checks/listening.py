"""Checks of where a cluster listens, and of recycling by memory. Runs in the process that starts a cluster."""

import os
import resource
import stat
import sys
from collections.abc import Iterator, Sequence

from eggcluster.model.steering.key_source import key_ways
from eggcluster.options.checks.files import no_place_for
from eggcluster.options.cluster_options import ResolvedOptions
from eggcluster.options.sources import Naming
from eggcluster.wording import shown

# sockaddr_un.sun_path with its final zero: unix(7) has 108 bytes, the BSDs and macOS 104.
UDS_MOST_BYTES = 107 if sys.platform == "linux" else 103


def check_ports(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that each worker has its own port."""
    ports = options.ports
    if len(set(ports)) != len(ports):
        twice = sorted({port for port in ports if ports.count(port) > 1})
        yield f"{name('ports')}: {_listed(twice)} is given more than once; give each worker its own port"
    elif ports and len(ports) != options.workers:
        counts = f"{_counted(len(ports), 'port')} for {_counted(options.workers, 'worker')}"
        yield f"{name('ports')}: {_listed(ports)} gives {counts}; give one port for each worker"


def check_fd(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that the descriptor is an open stream socket."""
    if options.fd is not None and (why := not_a_socket(options.fd)):
        yield f"{name('fd')}: {options.fd} {why}; name an inherited stream socket"


def check_uds(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that the socket's path is short enough for the kernel, and that its directory exists."""
    if options.uds is None:
        return
    if (length := len(os.fsencode(options.uds))) > UDS_MOST_BYTES:
        yield f"{name('uds')}: {shown(options.uds)} has {length} bytes; use a path of at most {UDS_MOST_BYTES}"
    elif why := no_place_for(options.uds):
        yield f"{name('uds')}: {shown(options.uds)} {why}"


def check_sticky(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that clients have addresses, and that the cluster chooses the worker."""
    if not options.sticky:
        return
    if options.uds is not None:
        yield (
            f"{name('sticky')}: with {name('uds')} all clients come from the proxy and have no address of their own; "
            "leave sticky out, or give each worker its own port (ports) and let the proxy choose"
        )
    elif options.ports:
        yield (
            f"{name('sticky')}: with {name('ports')} each port belongs to one worker, and the client chooses the port; "
            "leave sticky out"
        )


def check_sticky_by(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that connections can travel from worker to worker, which keys in requests need."""
    ways = key_ways(options.sticky_by)
    if not ways:
        return
    if options.https_key or options.https_cert:
        yield (
            f"{name('sticky_by')}: with TLS in the worker a connection cannot go to another worker, so {ways[0]} "
            "cannot be followed; use address, or let a proxy speak TLS"
        )
    elif options.start_mode == "interpreter":
        yield (
            f"{name('sticky_by')}: with {name('start_mode')} interpreter {ways[0]} cannot be followed; use address, or "
            "start_mode process or thread"
        )
    if options.ports:
        yield (
            f"{name('sticky_by')}: with {name('ports')} each port belongs to one worker, and the client chooses the "
            "port; leave sticky_by out"
        )


def not_a_socket(fd: int) -> str:
    """Return why connections cannot be accepted from this descriptor, "" if they can."""
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


# File descriptors that the master needs at the start, as counted there under limits of 256 and 384: while all workers
# start, it holds both ends of what connects them with it.
BASE_FILES = 32  # besides those of the workers
WORKER_FILES = 6  # for each worker: both ends of its channel, its heartbeat page, its pidfd
THREAD_FILES = 20  # for each worker in the master's own process: its end of all these, its event loop
LISTENER_FILES = 4  # for each worker with a listener of its own: that, and both ends of its handover


def check_open_files(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that the limit of open files is enough for all workers to start at once. Else the start would fail with an
    error of whatever needs the next descriptor, in thread mode an application's import."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    each = WORKER_FILES if options.start_mode == "process" else THREAD_FILES
    each += LISTENER_FILES if options.uds is None and options.fd is None and not options.listen_fds else 0
    needed = BASE_FILES + each * options.workers
    if limit != resource.RLIM_INFINITY and needed > limit and options.workers > 1:
        most = max(1, (limit - BASE_FILES) // each)
        yield (
            f"{name('workers')}: {_counted(options.workers, 'worker')} take at least {needed} open files in the "
            f"master, and the limit is {limit} (ulimit -n); raise it, or start at most {most}"
        )


def _listed(ports: Sequence[int]) -> str:
    return ",".join(map(str, ports)) if len(ports) <= 8 else f"{ports[0]},…,{ports[-1]}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def check_recycling(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that `max_rss` is used only in process mode: the system knows the memory of a process, not of a thread."""
    if options.max_rss and options.start_mode != "process":
        yield (
            f"{name('max_rss')}: with {name('start_mode')} {options.start_mode} all workers share one process, and "
            "the memory of a single worker is unknown; use max_lifetime or max_requests"
        )


def check_preload(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that `preload` is used only in process mode, and `preload_threads` only with it."""
    if options.preload and options.start_mode != "process":
        yield (
            f"{name('preload')}: with {name('start_mode')} {options.start_mode} all workers share one process, "
            "and none is forked; leave it out"
        )
    if options.preload_threads and not options.preload:
        yield f"{name('preload_threads')}: without {name('preload')} no thread matters; add it"
