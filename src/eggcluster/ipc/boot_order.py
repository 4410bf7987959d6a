"""The first message to a child: who it is and what to run. Written by the modes, read by the worker."""

from eggcluster.model.role import Role
from eggcluster.options import ClusterOptions
from eggcluster.packing import Struct


class Listener(Struct, frozen=True):
    """A place where the worker's connections come in, and whether it speaks TLS: a listening socket that it inherited,
    or None where the master accepts and hands over."""

    fd: int | None
    tls: bool


class BootOrder(Struct, frozen=True):
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
    options: ClusterOptions
    listeners: list[Listener] = []
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
