"""The first frame on a channel: it tells a new child what to be. Runs in the parent, the master and all workers.

The child reads it before it has an event loop.
"""

import socket
import sys
from typing import Any, TypeVar

from eggcluster.ipc.frame import HEADER, decode_body, encode_frame
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import Role
from eggcluster.options import ResolvedOptions
from eggcluster.packing import Struct

# Signals to a worker that is a thread, as single bytes on a socket of its own.
CLOSE_REQUEST = b"T"  # like SIGTERM
STACKS_REQUEST = b"A"  # like SIGABRT: write the stacks as the final message; then the same byte comes back


class ListenerSpec(Struct, frozen=True):
    """One source of the worker's connections, and whether it speaks TLS.

    `fd` is an inherited listening socket, or None if the master accepts and hands over the connections.
    """

    fd: int | None
    tls: bool


class WorkerSpec(Struct, frozen=True):
    """Everything that a worker needs to know. It travels over the channel, because options may hold secrets.

    `forked_at` is the instant of CLOCK_MONOTONIC at which the worker was started, `start_deadline` the instant at
    which it must have reported. `listening_at` is the listen address to report in `app-start`. `heartbeat_fd` is the
    memory file of its heartbeat page. At `handover_fd` an app worker receives connections that the master has
    accepted, or that other workers have given away; None if there will be none. `keys_fd` is the memory of the key
    table, None without one; `key_part` is this worker's part of it, its number and the incarnation. `reloads` counts
    the cluster's reloads, for workers that share their modules, and `renewals` those of them after which a template
    loads anew what is installed. `shares` says that an app worker of the cluster has asked for a copy of the shared
    dictionary: this one starts with one. `dead_agent` is the generation of the last agent that is known dead;
    `version` is the version of eggcluster that the master runs.

    `cluster_port` is the path of the Unix socket at which app workers reach the agent, `cluster_inode` its file's
    inode, and `cluster_fd` its listener, which only the agent inherits. The agent also gets what its predecessor
    left: `survivors` are the worker ids of the living app workers that may have a copy of the shared dictionary;
    `was_shared` says that something was written into it; `journal` holds the entries that the predecessor left with
    the master, by key. `secret` is what the workers derive their keys from (`eggcluster.secret`).
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
    shares: bool = False
    survivors: list[int] = []
    was_shared: bool = False
    dead_agent: int = 0
    heartbeat_fd: int = -1
    handover_fd: int | None = None
    keys_fd: int | None = None
    key_part: tuple[int, int] = (0, 0)
    reloads: int = 0
    renewals: int = 0
    version: str = ""
    journal: dict[str, bytes] = {}
    secret: bytes = b""

    def __repr__(self) -> str:
        return f"<WorkerSpec {self.role}#{self.slot} gen {self.generation}>"  # never the secrets in it

    @property
    def fds(self) -> list[int]:
        """The file descriptors that the worker takes over, besides its channel and heartbeat page."""
        listening = [listener.fd for listener in self.listeners]
        return [fd for fd in (*listening, self.cluster_fd, self.handover_fd, self.keys_fd) if fd is not None]

    @property
    def master_pid(self) -> int:
        """The master's pid. (`os.getppid` names another process once the master is dead.)"""
        return int(self.cluster_id.partition("-")[0])

    @property
    def speaker(self) -> str:
        """The name in the brackets of the worker's log lines."""
        return "agent_worker" if self.role == Role.AGENT.value else f"app_worker#{self.slot}"

    @property
    def log_level(self) -> str:
        """The lowest level that the worker logs."""
        return self.options.agent_log_level if self.role == Role.AGENT.value else self.options.app_log_level


def with_copies(spec: WorkerSpec, copies: dict[int, int]) -> WorkerSpec:
    """Return the same spec, with each file descriptor of the sender replaced by the receiver's copy of it."""

    def own(fd: int | None) -> int | None:
        return None if fd is None else copies[fd]

    fields: dict[str, Any] = {name: getattr(spec, name) for name in WorkerSpec.__annotations__}
    fields["heartbeat_fd"] = copies[spec.heartbeat_fd]
    fields["listeners"] = [ListenerSpec(own(each.fd), each.tls) for each in spec.listeners]
    fields["cluster_fd"] = own(spec.cluster_fd)
    fields["handover_fd"] = own(spec.handover_fd)
    fields["keys_fd"] = own(spec.keys_fd)
    return WorkerSpec(**fields)


T = TypeVar("T")


def send_first(sock: socket.socket, content: Any) -> None:
    """Send the first frame to a new child: a WorkerSpec, or a master's options.

    The frame has some kilobytes, so it fits into the socket's buffer, and `sendall` does not wait.
    """
    sock.sendall(encode_frame(FrameKind.EVENT, Target.ADDRESS, ["boot", content]))


def read_first(sock: socket.socket, type: type[T]) -> T:
    """Wait for the first frame and return its content, as a `type`. SystemExit if the other end closes before it."""
    length: int = HEADER.unpack(_read(sock, HEADER.size))[0]
    _, content = decode_body(_read(sock, length), tuple[str, type])  # type: ignore[valid-type]
    return content  # type: ignore[no-any-return]  # decode_body has checked it


def _read(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            sys.exit("the channel was closed before the first frame came")
        data += chunk
    return bytes(data)
