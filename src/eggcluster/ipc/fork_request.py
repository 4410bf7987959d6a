"""What the master and a template say to each other: one request for each worker, one answer to each, in their order.

They talk over a socket pair of its own that keeps messages apart (SOCK_SEQPACKET, unix(7)). A request carries the file
descriptors of the new worker. Runs in the master and in templates; Linux only.
"""

import builtins
import contextlib
import socket
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.packing import Struct, decode, encode

MAX_FDS = 253  # in one message: SCM_MAX_FD, unix(7)
_MAX_BYTES = 64 * 1024
_MAX_ORDER_BYTES = 1024 * 1024  # the options of a cluster are in it
T = TypeVar("T")
_END = b"end"  # instead of a request


class ForkRequest(Struct, frozen=True):
    """Fork a process that carries `mark`. `fds` are numbers that stand for the descriptors that come along, in their
    order: first a worker's channel, then its heartbeat page, then the rest. `is_template`: it is to be a template of
    its own, and the only descriptor is its end of the socket pair."""

    mark: str
    fds: list[int]
    is_template: bool = False


class ForkAnswer(Struct, frozen=True):
    """The worker's pid; or why there is none. `unfit` says that this template forks no workers at all; otherwise the
    system has refused this one."""

    pid: int = 0
    refused: str = ""
    unfit: str = ""


class LoadReport(Struct, frozen=True):
    """A template that was forked has imported the application, or has `failed` to. It answers requests from now on."""

    failed: bool = False


class ReceivedRequest(NamedTuple):
    """A request as the template gets it. `fds` are its own numbers of the descriptors."""

    request: ForkRequest
    fds: list[int]

    @property
    def complete(self) -> bool:
        """Whether all descriptors came; the kernel drops those for which the receiver has no room."""
        return len(self.fds) == len(self.request.fds)


def send_request(sock: socket.socket, request: ForkRequest, fds: Sequence[int]) -> None:
    """Send a request with descriptors, which may be closed afterwards. OSError if it cannot be sent at once."""
    socket.send_fds(sock, [encode(request)], fds)


def send_end(sock: socket.socket) -> None:
    """Tell the template to end when it has answered what it was asked before. OSError if it cannot be told at once."""
    sock.send(_END)


def read_request(sock: socket.socket) -> ReceivedRequest | None:
    """Wait for the next request; return None when the template is to end. EOFError if the other end was closed without
    that: the master is vanishing."""
    try:
        raw, fds, _, _ = socket.recv_fds(sock, _MAX_BYTES, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        raw, fds = b"", []
    if not raw:
        raise EOFError
    return None if raw == _END else ReceivedRequest(decode(raw, type=ForkRequest), fds)


def send_order(sock: socket.socket, spec: WorkerSpec) -> None:
    """Tell a template that was forked what to import. OSError if it cannot be told at once."""
    sock.send(encode(spec))


def read_order(sock: socket.socket) -> WorkerSpec:
    """Wait for `send_order`. EOFError if the other end was closed before it."""
    raw = sock.recv(_MAX_ORDER_BYTES)
    if not raw:
        raise EOFError
    return decode(raw, type=WorkerSpec)


def send_answer(sock: socket.socket, answer: ForkAnswer | LoadReport) -> None:
    """Send an answer. Do nothing if the master has gone."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.send(encode(answer))


def read_answer(sock: socket.socket, type: builtins.type[T]) -> T | None:
    """Return the next answer; None if the template has ended. BlockingIOError if there is no answer yet."""
    try:
        raw = sock.recv(_MAX_BYTES)
    except ConnectionResetError:
        return None
    return decode(raw, type=type) if raw else None
