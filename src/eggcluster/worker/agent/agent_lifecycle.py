"""The lifecycle of the agent. Runs in the agent."""

import contextlib
import socket
from typing import Any

from eggcluster.errors import EggclusterError
from eggcluster.kernel.inherited_sockets import inherited_socket
from eggcluster.worker.agent.agent import Agent
from eggcluster.worker.agent.cluster_port import ClusterPort
from eggcluster.worker.app.loading import load_agent
from eggcluster.worker.context.hooks import Hooks
from eggcluster.worker.lifecycle.lifecycle import Lifecycle

LAST_MESSAGES_TIMEOUT = 1.0  # seconds, at most, for the last messages, and again for their async handlers


class AgentLifecycle(Lifecycle):
    """Boot: import `agent.py`, start its shared clients, run its `on_start`. Close: cancel its tasks, run its
    `on_close`, close the clients."""

    start_report = "agent-start"
    agent: Agent
    _booted = False
    _port: ClusterPort | None = None

    def load(self) -> Hooks:
        self.agent = load_agent(self.options)
        self.agent.registrations.journal = self.spec.journal
        return self.agent

    async def boot(self) -> None:
        self._open_cluster_port()
        await self.start_sharing()
        await self.agent.run_start()
        await self.start_sharing()
        self._booted = True
        if (used := self.context.sharing_in_use) is not None:
            used.booted()
        self.times.done("on_start")

    def start_details(self) -> dict[str, Any]:
        from eggcluster.worker.lifecycle.source_files import source_files  # in the agent alone

        return {"sources": source_files()}

    def _on_event(self, action: str, data: Any) -> None:
        if action == "egg-pids":
            self.agent.listening_workers(data)
        super()._on_event(action, data)

    async def close(self) -> bool:
        closed = False
        with self.contained("handling the last messages"):
            await self._handle_last_messages()
        with self.contained("on_close"):
            closed = await self.run_hooks_to_close(self.options.agent_close_timeout)
        with self.contained("the cluster port"):
            if self._port is not None:
                self._port.close()
        with self.contained("sharing"):
            return await self.close_sharing() and closed
        return False

    async def _handle_last_messages(self) -> None:
        """Handle everything that was sent to this agent; the master keeps what comes later for the next one.

        The master's reply comes after all that it has relayed so far.
        """
        timeout = min(LAST_MESSAGES_TIMEOUT, self.options.agent_close_timeout / 4000)  # ms; on_close keeps half of it
        with contextlib.suppress(EggclusterError):
            await self.messenger.internal.request("egg-leave", None, "master", timeout)
        await self.messenger.wait_for_handlers(timeout)

    def _open_cluster_port(self) -> None:
        spec = self.spec
        if spec.cluster_fd is not None:
            listener = inherited_socket(spec.cluster_fd)
            self._port = ClusterPort(listener, spec.cluster_port, spec.cluster_inode, self._on_follower)

    def _on_follower(self, follower: socket.socket) -> None:
        """Take an app worker's connection. An agent that shares nothing itself loads the sharing only now."""
        self.context.sharing.open()
        if self._booted:
            self.context.sharing.booted()
        self.context.sharing.take(follower)
