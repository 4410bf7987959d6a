"""The hub: starts the leaders, and serves their followers over connections from the app workers. Runs in the agent."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import Any, TypeVar

from eggcluster.errors import MessengerError, SharedFull
from eggcluster.ipc.direct_connection import DirectConnection
from eggcluster.ipc.frame import RequestKey, encode_frame
from eggcluster.ipc.handlers import Handlers
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.tasks import TaskSet, take_turns
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import AGENT
from eggcluster.model.shared.shared_copy import CopyMark
from eggcluster.model.shared.shared_store import Write
from eggcluster.model.shared.shared_table import Table
from eggcluster.packing import convert
from eggcluster.worker.sharing.client_spec import ClientSpec
from eggcluster.worker.sharing.leader import Leader
from eggcluster.worker.sharing.recovery import AskMaster, SharedRecovery
from eggcluster.worker.sharing.shared import Shared
from eggcluster.worker.sharing.shared_client import ClientBackend
from eggcluster.worker.sharing.shared_writer import SharedWriter
from eggcluster.worker.sharing.sharing import Sharing, run_in, wait_in

CLOSE_TIMEOUT = 1.0  # seconds for the calls under way when the agent closes

T = TypeVar("T")

_logger = logging.getLogger("eggcluster.cluster_client")


class SharingHub(Sharing):
    """Takes followers' connections from `open` to `close`.

    A follower says hello, is welcomed once the agent has booted, and only then asks for anything. So it finds all
    leaders that the agent's module and `on_start` have created.
    """

    def __init__(self, worker_spec: WorkerSpec, loop: asyncio.AbstractEventLoop, ask_master: AskMaster) -> None:
        super().__init__()
        self._greeting = encode_frame(FrameKind.MESSAGE, Target.APPS, ("agent", worker_spec.generation))
        self._ask_master = ask_master
        self._options = worker_spec.options
        self._cluster_id = worker_spec.cluster_id
        self._leaders: dict[str, Leader] = {}
        self._handlers = Handlers()  # the leaders' methods, for all connections
        self._connections: set[DirectConnection] = set()
        self._booted = asyncio.Event()
        self._running = TaskSet()
        self._shared = Shared(self)
        self._shared_is_used = False
        self._writer = SharedWriter(worker_spec.generation, self._shared.notify, self._record_first_write)
        spec, store = worker_spec, self._writer.store
        self._recovery = SharedRecovery(store, spec.survivors, spec.was_shared, ask_master, self._writer.send_again)
        self._loop = loop
        self._is_open = False

    # -- the sharing -----------------------------------------------------------------------------------

    def _open(self, spec: ClientSpec) -> ClientBackend:
        leader = Leader(spec)
        self._leaders[spec.name] = leader
        for method, meaning in spec.methods().items():
            if meaning in ("invoke", "publish"):
                self._handlers.add(f"{spec.name}.{method}", partial(leader.serve, method))
        if self._is_open:
            leader.begin()
            for connection in self._connections:
                connection.send("leaders", list(self._leaders))
        return leader

    @property
    def shared(self) -> Shared:
        self._shared_is_used = True
        return self._shared

    def open(self) -> None:
        """Accept followers and restore the dictionary from now on. Later calls do nothing."""
        if not self._is_open:
            self._is_open = True
            self._running.start(self._restore())

    async def start(self) -> None:
        self.open()
        for leader in list(self._leaders.values()):
            await leader.begin()
        if self._shared_is_used:
            await self.ready()

    def booted(self) -> None:
        self._booted.set()

    def agent_gone(self, generation: int) -> None:
        """Do nothing: this is the agent."""

    async def close(self) -> bool:
        self._writer.close()
        if under_way := {task for connection in self._connections for task in connection.running}:
            await asyncio.wait(under_way, timeout=CLOSE_TIMEOUT)
        closed = await self._close_leaders()
        for connection in list(self._connections):
            connection.close()
        self._running.cancel()
        return all(closed)

    async def _close_leaders(self) -> list[bool]:
        """Close the leaders, the last one first; one that is slow does not end the others' turn."""
        leaders = [*reversed(self._leaders.values())]

        def on_slow(index: int, seconds: float) -> None:
            text = "closing %s is not done after %.1fs, the next one begins beside it"
            _logger.warning(text, leaders[index].spec.name, seconds)

        return await take_turns([leader.close for leader in leaders], CLOSE_TIMEOUT, on_slow)

    # -- the shared dictionary -------------------------------------------------------------------------

    @property
    def table(self) -> Table | None:
        return self._writer.store if self._writer.restored.is_set() else None

    @property
    def writable(self) -> bool:
        return self._writer.restored.is_set()

    def wait(self, work: Coroutine[Any, Any, T], timeout: float | None, *, blocks: bool) -> T:
        return wait_in(self._loop, work, timeout)

    def write(self, write: Write) -> Awaitable[Any]:
        return run_in(self._loop, self._write_own(write))

    def ready(self) -> Awaitable[Any]:
        return run_in(self._loop, self._restored())

    async def _write_own(self, write: Write) -> Any:
        await self._restored()
        return await self._writer.write(write)

    async def _restored(self) -> None:
        """Wait until the dictionary is restored. `on_start` may be the first to ask, before `start` opens it."""
        self.open()
        await self._writer.restored.wait()

    async def _restore(self) -> None:
        try:
            await self._recovery.run()
        except Exception:
            _logger.exception("BUG: the recovery of the shared dictionary ended early")
        self._writer.open()

    def _record_first_write(self) -> None:
        self._running.start(self._report_use())

    async def _report_use(self) -> None:
        with contextlib.suppress(MessengerError):
            await self._ask_master("egg-shares")

    # -- connections -----------------------------------------------------------------------------------

    def take(self, follower: socket.socket) -> None:
        # At once: a worker leaves the connections of dead agents, and an agent that hangs later sends nothing more.
        with contextlib.suppress(OSError):  # it has gone already
            follower.send(self._greeting)
        self._running.start(self._take(follower))

    async def _take(self, sock: socket.socket) -> None:
        options = self._options
        connection = await DirectConnection.open(
            sock, self, self._handlers, AGENT.pack(), options.max_message_bytes, options.max_queue_bytes
        )
        if not connection.gone.is_set():
            self._connections.add(connection)

    def on_request(self, connection: DirectConnection, request_key: RequestKey, action: str, data: Any) -> bool:
        if action == "hello":
            self._greet(connection, request_key, *convert(data, tuple[str, int, CopyMark | None]))
        elif action == "write":
            self._write(connection, request_key, convert(data, Write))
        elif action == "subscribed":
            self._running.start(self._confirm(connection, request_key, *convert(data, tuple[str, bytes])))
        else:
            return False
        return True

    def on_message(self, connection: DirectConnection, action: str, data: Any) -> None:
        if action == "follow":
            self._running.start(self._follow(connection))
            return
        name, key, info = convert(data, tuple[str, bytes, Any])
        if leader := self._leaders.get(name):
            if action == "subscribe":
                leader.add_connection(connection, key, info)
            elif action == "unsubscribe":
                leader.remove_connection(connection, key)

    def on_closed(self, connection: DirectConnection) -> None:
        self._connections.discard(connection)
        self._recovery.leave(connection)
        self._writer.remove_connection(connection)
        for leader in self._leaders.values():
            leader.remove_connection(connection)

    def _greet(
        self,
        connection: DirectConnection,
        request_key: RequestKey,
        cluster_id: str,
        worker_id: int,
        mark: CopyMark | None,
    ) -> None:
        # The follower's runtime directory was emptied, and this cluster has bound the path since.
        if cluster_id != self._cluster_id:
            why = ["WrongCluster", "the agent at this path is another cluster's", ""]
            connection.reply(request_key, FrameKind.FAILURE, why)
            return
        self._recovery.arrive(worker_id, mark, connection)
        self._running.start(self._welcome(connection, request_key))

    async def _welcome(self, connection: DirectConnection, request_key: RequestKey) -> None:
        await self._booted.wait()
        await self._recovery.settle(connection)
        connection.reply(request_key, FrameKind.REPLY, list(self._leaders))

    async def _follow(self, connection: DirectConnection) -> None:
        await self._writer.restored.wait()
        await self._recovery.settle(connection)
        if not connection.channel.closed:
            self._writer.add_connection(connection)

    async def _confirm(self, connection: DirectConnection, request_key: RequestKey, name: str, key: bytes) -> None:
        try:
            if leader := self._leaders.get(name):
                await leader.established(key)
        except Exception as error:
            connection.reply(request_key, FrameKind.FAILURE, [type(error).__name__, str(error), ""])
        else:
            connection.reply(request_key, FrameKind.REPLY, None)

    def _write(self, connection: DirectConnection, request_key: RequestKey, write: Write) -> None:
        if not self._writer.restored.is_set():
            self._running.start(self._write_later(connection, request_key, write))
            return
        try:
            answer = [self._writer.carry_out(write), None, ""]
        except (SharedFull, TypeError, ValueError) as error:
            answer = [None, type(error).__name__, str(error)]
        self._writer.after_turn(partial(self._acknowledge, connection, request_key, answer))

    async def _write_later(self, connection: DirectConnection, request_key: RequestKey, write: Write) -> None:
        await self._writer.restored.wait()
        self._write(connection, request_key, write)

    def _acknowledge(self, connection: DirectConnection, request_key: RequestKey, answer: list[Any]) -> None:
        connection.flush_latest()  # the writer reads its own write
        connection.reply(request_key, FrameKind.REPLY, answer)
