"""A cluster's site in one event loop: an agent's hub and workers' uplinks, over the real Unix socket that waits."""

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.inherited_sockets import inherited_socket
from eggcluster.kernel.unix_socket import bind_unix
from eggcluster.options import ResolvedOptions
from eggcluster.worker.agent.cluster_port import ClusterPort
from eggcluster.worker.sharing.hub import SharingHub
from eggcluster.worker.sharing.sharing import Sharing
from eggcluster.worker.sharing.uplink import Uplink


class Site:
    """What the master holds for all: the listener, and the count of the agents."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "agent.sock")
        self.subscriber = bind_unix(self.path)
        self.subscriber.listen()
        self.subscriber.setblocking(False)
        self.options = ResolvedOptions(port=0, workers=4)
        self.cluster_id = f"{os.getpid()}-1"
        self.agents = 0
        self.was_shared = False
        self.sharing: set[int] = set()  # the ids of the workers that the master knows to share, and to live
        self.hub: SharingHub
        self.port: ClusterPort
        self.uplinks: list[Uplink] = []

    async def agent(self, *blueprints: Any, survivors: Sequence[int] = (), wait: bool = True) -> SharingHub:
        """The next agent, whose module creates these clients; it waits for the copies of these workers."""
        self.agents += 1
        worker_spec = self._worker_spec("agent", self.agents, list(survivors))
        self.hub = SharingHub(worker_spec, asyncio.get_running_loop(), self.ask_as_agent)
        for each in blueprints:
            each(self.hub)
        if wait:
            self.open_port()
            await self.hub.start()
            self.hub.booted()
        return self.hub

    def open_port(self) -> None:
        """Let followers in."""
        subscriber = inherited_socket(self.subscriber.dup().detach())
        self.port = ClusterPort(subscriber, self.path, os.stat(self.path).st_ino, self._on_follower)

    def _on_follower(self, follower: socket.socket) -> None:
        self.hub.open()
        self.hub.take(follower)

    async def worker(self, *wishes: Any, wait: bool = True) -> Any:
        """An app worker whose module asks for these; gives what it asked for."""
        slot = len(self.uplinks) + 1
        loop, spec = asyncio.get_running_loop(), self._worker_spec("app", 1, [], slot)
        uplink = Uplink(spec, loop, slot, functools.partial(self.ask_as_worker, slot))
        self.uplinks.append(uplink)
        got = [wish(uplink) for wish in wishes]
        if wait:
            await uplink.start()
        return got[0] if len(got) == 1 else got

    async def ask_as_agent(self, action: str) -> list[int]:
        """The master's answers to the agent."""
        self.was_shared = self.was_shared or action == "egg-shares"
        return list(self.sharing)

    async def ask_as_worker(self, worker_id: int, action: str) -> None:
        """The master's answers to an app worker."""
        assert action == "egg-shares"
        self.sharing.add(worker_id)

    def kill_agent(self) -> None:
        """SIGKILL: nothing is sent any more, everything is closed by the kernel."""
        self.port.close()
        self.hub._writer.close()
        for task in self.hub._running:
            task.cancel()
        for connection in list(self.hub._connections):
            connection.channel.fail(FrameError("killed"))

    async def kill_worker(self, slot: int) -> None:
        self.sharing.discard(slot)
        await self.uplinks[slot - 1].close()

    async def close(self) -> None:
        self.port.close()
        everybody: list[Sharing] = [*self.uplinks, self.hub]
        for each in everybody:
            await each.close()
        self.subscriber.close()
        os.unlink(self.path)

    def _worker_spec(self, role: str, generation: int, survivors: list[int], slot: int = 0) -> WorkerSpec:
        return WorkerSpec(
            role,
            slot,
            generation,
            self.cluster_id,
            self.options,
            cluster_port=self.path,
            survivors=survivors,
            was_shared=self.was_shared,
        )


@contextlib.asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    made = Site(folder)
    try:
        yield made
    finally:
        await made.close()


def raw_follower(site: Site) -> socket.socket:
    """A connection to the agent that speaks for itself."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(site.path)
    return sock
