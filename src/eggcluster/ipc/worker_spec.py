"""The first frame on a channel: what a new child is to be. Sent by its parent, read before there is an event loop."""

import socket
import sys
from typing import Any, TypeVar

from eggcluster.ipc.frame import HEADER, decode_body, encode_frame
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import Role
from eggcluster.options import ResolvedOptions
from eggcluster.packing import Struct

CLOSE = b"T"  # as SIGTERM
TELL = b"A"  # as SIGABRT: write where you are; the same comes back when it is written


class ListenerSpec(Struct, frozen=True):
    """A place where the worker's connections come in, and whether it speaks TLS: a listening socket that it inherited,
    or None where the master accepts and hands over."""

    fd: int | None
    tls: bool


class WorkerSpec(Struct, frozen=True):
    """Everything that a worker needs to know. It travels over the channel: options may hold secrets.

    `forked_at` is the instant of CLOCK_MONOTONIC at which it was made, `start_deadline` the one at which the master's
    patience ends; `listening_at` the address to report in `app-start`. `record_fd` is the memory file of its vital
    record. At `handover_fd` an app worker receives connections that the master has accepted; None where it never does.
    `edition` counts the reloads so far, for workers that share their modules.

    `cluster_port` is the path of the Unix socket at which app workers reach the agent, `cluster_inode` its file's, and
    `cluster_fd` its listener, which the agent inherits. The agent learns who may remember what its predecessor knew,
    too: `survivors`, the worker ids of the app workers that listen, and `remembered`, what it has left with the
    master, by key.
    """

    role: str
    slot: int
    generation: int
    cluster_id: str
    options: ResolvedOptions
    listeners: list[ListenerSpec] = []
    listening_at: str = ""
    forked_at: float = 0.0
    start_deadline: float = float("inf")
    cluster_port: str = ""
    cluster_inode: int = 0
    cluster_fd: int | None = None
    survivors: list[int] = []
    record_fd: int = -1
    handover_fd: int | None = None
    edition: int = 0
    remembered: dict[str, bytes] = {}

    @property
    def fds(self) -> list[int]:
        """The file descriptors that become the worker's own."""
        listening = [listener.fd for listener in self.listeners]
        return [fd for fd in (*listening, self.cluster_fd, self.handover_fd) if fd is not None]

    @property
    def master(self) -> int:
        """The master's pid. A worker's own parent may be another process by the time it asks: the master's heir."""
        return int(self.cluster_id.partition("-")[0])

    @property
    def speaker(self) -> str:
        """Who logs: the word in brackets."""
        return "agent_worker" if self.role == Role.AGENT.value else f"app_worker#{self.slot}"

    @property
    def log_level(self) -> str:
        """The lowest level that it logs."""
        return self.options.agent_log_level if self.role == Role.AGENT.value else self.options.app_log_level


T = TypeVar("T")


def send_first(sock: socket.socket, order: Any) -> None:
    """Tell a new child what it is to be. Some kilobytes at most, so they fit the socket's buffer: no waiting."""
    sock.sendall(encode_frame(FrameKind.EVENT, Target.ADDRESS, ["boot", order]))


def read_first(sock: socket.socket, type: type[T]) -> T:
    """What `send_first` sent, as `type`. SystemExit where the other side went away before it."""
    length: int = HEADER.unpack(_read(sock, HEADER.size))[0]
    _, order = decode_body(_read(sock, length), tuple[str, type])  # type: ignore[valid-type]
    return order  # type: ignore[no-any-return]  # decode_body has checked it


def _read(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            sys.exit("the channel was closed before the boot order came")
        data += chunk
    return bytes(data)
