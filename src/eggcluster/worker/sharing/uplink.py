"""The uplink: an app worker's connection to the agent's hub. Runs in the app workers.

Followers call their leaders over it, and the copy of the shared dictionary is kept up to date.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from eggcluster.errors import (
    LeaderGone,
    MessengerClosed,
    MessengerError,
    NoLeader,
    RemoteError,
    RequestTimeout,
)
from eggcluster.ipc.direct_connection import DirectConnection
from eggcluster.ipc.frame import RequestKey
from eggcluster.ipc.handlers import Handlers
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.tasks import TaskSet
from eggcluster.kernel.unix_socket import connect_unix
from eggcluster.model.messages.message import FrameKind
from eggcluster.model.messages.role import app
from eggcluster.model.shared.shared_copy import CopyMark
from eggcluster.model.shared.shared_store import Write
from eggcluster.model.shared.shared_table import Change, Table, TableCopy
from eggcluster.packing import convert
from eggcluster.worker.sharing.client_spec import ClientSpec
from eggcluster.worker.sharing.follower import Follower
from eggcluster.worker.sharing.recovery import AskMaster, read_copy
from eggcluster.worker.sharing.shared import Shared
from eggcluster.worker.sharing.shared_client import ClientBackend
from eggcluster.worker.sharing.sharing import Sharing, is_running, refusal, run_in, start_loop, wait_in

DELAY_RESET_AFTER = 1.0  # seconds of a connection after which the next one is opened at once
FIRST_RECONNECT_DELAY = 0.05  # seconds between short connections; without an agent they wait in the backlog
MAX_RECONNECT_DELAY = 1.0  # seconds
WELCOME_TIMEOUT = 24 * 3600.0  # seconds; until there is an agent, the connection waits in its backlog
WRITE_TIMEOUT = 5.0  # seconds, as for a request
SIDE_TIMEOUT = 0.5  # seconds, once, until a second connection stands
NO_WORKER = 0  # the worker id of an uplink that never has a copy

T = TypeVar("T")

_logger = logging.getLogger("eggcluster.cluster_client")


class Uplink(Sharing):
    """Connects when the worker first uses sharing, and again whenever the agent is replaced.

    `loop` is the worker's own loop; calls from other loops and threads are carried out in it.
    """

    def __init__(
        self, worker_spec: WorkerSpec, loop: asyncio.AbstractEventLoop, worker_id: int, ask_master: AskMaster
    ) -> None:
        super().__init__()
        self._ask_master = ask_master
        self._gone = 0  # the generation of the last agent that is known dead
        self._worker_spec = worker_spec
        self._loop = loop
        self.worker_id = worker_id
        self._followers: dict[str, Follower] = {}
        self._leaders: set[str] = set()
        self._handlers = Handlers()
        self._connection: DirectConnection | None = None  # welcomed
        self._latest: DirectConnection | None = None  # welcomed, or not yet
        self._welcomed = asyncio.Event()
        self._connecting: asyncio.Task[None] | None = None
        self._side: Uplink | None = None
        self._making = threading.Lock()
        self._shared: Shared | None = None
        self._master_knows = False  # that this worker may have a copy
        self._following = TaskSet()
        self._copy = Table()
        self._has_copy = asyncio.Event()
        self.soon(self._connect)

    # -- the sharing -----------------------------------------------------------------------------------

    def _open(self, spec: ClientSpec) -> ClientBackend:
        follower = self._followers[spec.name] = Follower(spec, self)
        return follower

    @property
    def shared(self) -> Shared:
        with self._making:  # several threads may ask at once
            if self._shared is None:
                self._shared = Shared(self)
                self.soon(self._follow)
            return self._shared

    async def start(self) -> None:
        await self._welcomed.wait()
        for name in self._followers:
            self._check_leader(name)
        if self._shared is not None:
            await self._has_copy.wait()

    async def close(self) -> bool:
        if self._connecting is not None:
            self._connecting.cancel()
            self._following.cancel()
            await asyncio.wait([self._connecting])
        if self._side is not None:
            await run_in(self._side._loop, self._side.close())
            self._side.soon(self._side._loop.stop)
        return True

    def agent_gone(self, generation: int) -> None:
        """Close a connection to this agent: if it is a hung thread, it may keep its socket without reading it. What it
        has written is still read here. A connection to a later agent stays."""
        self._gone = max(self._gone, generation)
        if self._latest is not None:
            self._leave_dead(self._latest)
        if self._side is not None:
            self._side.soon(self._side.agent_gone, generation)

    def _leave_dead(self, connection: DirectConnection) -> None:
        """Close a connection to an agent that is known dead. One that is still in the backlog stays: an agent says its
        generation as soon as it accepts."""
        if 0 < connection.agent <= self._gone:
            connection.channel.close()

    def open(self) -> None: ...

    def booted(self) -> None: ...

    # -- the followers' link ---------------------------------------------------------------------------

    async def call(self, name: str, action: str, data: Any, timeout: float, *, again: bool) -> Any:
        if asyncio.get_running_loop() is not self._loop:
            return await run_in(self._loop, self.call(name, action, data, timeout, again=again))
        try:
            return await self._ask(action, data, timeout, again=again, leader=name)
        except RemoteError as error:
            if error.kind == "NoHandler":
                raise NoLeader(f"the agent's client {name} differs from this worker's: it has no {action}") from None
            raise

    def tell(self, action: str, data: Any) -> None:
        self.soon(self._tell, action, data)

    def soon(self, function: Any, *args: Any) -> None:
        if is_running(self._loop):
            function(*args)
        else:
            self._loop.call_soon_threadsafe(function, *args)

    # -- the shared dictionary ------------------------------------------------------------------------

    @property
    def table(self) -> Table | None:
        return self._copy if self._has_copy.is_set() else None

    @property
    def writable(self) -> bool:
        return self._here()._connection is not None

    def wait(self, work: Coroutine[Any, Any, T], timeout: float | None, *, blocks: bool) -> T:
        if not blocks or not is_running(self._loop):
            return wait_in(self._loop, work, timeout)
        side = self._side = self._side or self._beside()
        if side._connection is None:
            work.close()
            raise LeaderGone("there is no agent now; nothing was written")
        return wait_in(side._loop, work, timeout)

    def _beside(self) -> "Uplink":
        """Return another uplink of this worker, with a thread and an event loop of its own: it writes while this loop
        is blocked. It has no copy, and the agent does not count it as a worker that may have one."""
        side = Uplink(self._worker_spec, start_loop("egg-shared"), NO_WORKER, self._ask_master)
        side._gone = self._gone
        with contextlib.suppress(RequestTimeout):
            wait_in(side._loop, side._welcomed.wait(), SIDE_TIMEOUT)
        return side

    def _here(self) -> "Uplink":
        """Return the uplink whose event loop this code runs in."""
        return self._side if self._side is not None and is_running(self._side._loop) else self

    def write(self, write: Write) -> Awaitable[Any]:
        here = self._here()
        return run_in(here._loop, here._write(write))

    def ready(self) -> Awaitable[Any]:
        return run_in(self._loop, self._has_copy.wait())

    async def _write(self, write: Write) -> Any:
        result, kind, text = await self._ask("write", write, WRITE_TIMEOUT)
        if kind is not None:
            raise refusal(kind, text)
        return result

    # -- asking ----------------------------------------------------------------------------------------

    async def _ask(self, action: str, data: Any, timeout: float, *, again: bool = False, leader: str = "") -> Any:
        began, left = self._loop.time(), timeout
        while True:
            connection = self._connection
            if connection is None:
                connection = await self._next_connection(action, timeout, left)
                left = max(timeout - (self._loop.time() - began), 0)
            if leader:
                self._check_leader(leader)
            try:
                return await connection.request(action, data, left)
            except MessengerClosed:
                self.on_closed(connection)  # just closed, and nothing was sent: use the next one
            except LeaderGone:
                if not again:
                    raise
            except RequestTimeout:
                raise RequestTimeout(f'no answer to "{action}" within {timeout:g}s') from None

    async def _next_connection(self, action: str, timeout: float, left: float) -> DirectConnection:
        try:
            async with asyncio.timeout(left):
                while self._connection is None:
                    await self._welcomed.wait()
                return self._connection
        except TimeoutError:
            raise RequestTimeout(f'no agent to ask for "{action}" within {timeout:g}s') from None

    def _check_leader(self, name: str) -> None:
        if name not in self._leaders:
            cls = self._followers[name].spec.cls.__name__
            raise NoLeader(
                f'the agent has no client "{name}": put the same line, agent.cluster({cls}).create(...), into agent.py'
            )

    # -- the connection --------------------------------------------------------------------------------

    def _connect(self) -> None:
        if self._connecting is None:
            self._connecting = self._loop.create_task(self._stay_connected())

    async def _stay_connected(self) -> None:
        delay, unreachable = 0.0, False
        while True:
            began = self._loop.time()
            try:
                await self._stay_with()
            # The runtime directory was removed, the backlog is full, or the agent belongs to another cluster.
            except (OSError, RemoteError) as error:
                _logger.log(logging.DEBUG if unreachable else logging.WARNING, "the agent cannot be reached: %s", error)
                unreachable = True
            except MessengerError as error:
                _logger.debug("the connection to the agent has ended: %s", error)
            except Exception:
                _logger.exception("BUG: the connection to the agent is opened again")
            else:
                unreachable = False
            lasted = self._loop.time() - began > DELAY_RESET_AFTER
            delay = 0.0 if lasted else min(max(delay * 2, FIRST_RECONNECT_DELAY), MAX_RECONNECT_DELAY)
            await asyncio.sleep(delay)

    async def _stay_with(self) -> None:
        """Connect, and stay until the connection ends. Without an agent the connection waits in the backlog."""
        options = self._worker_spec.options
        sock = connect_unix(self._worker_spec.cluster_port, blocking=False)
        limits = options.max_message_bytes, options.max_queue_bytes
        connection = self._latest = await DirectConnection.open(
            sock, self, self._handlers, app(self._worker_spec.slot).pack(), *limits
        )
        try:
            mark = CopyMark(self._copy.version, self._copy.generation) if self._has_copy.is_set() else None
            hello = self._worker_spec.cluster_id, self.worker_id, mark
            self._welcome(connection, await connection.request("hello", hello, WELCOME_TIMEOUT))
            await connection.gone.wait()
        finally:
            connection.close()

    def _welcome(self, connection: DirectConnection, leaders: list[str]) -> None:
        self._connection, self._leaders = connection, set(leaders)
        self._welcomed.set()
        if self._shared is not None:
            self._follow()
        for follower in self._followers.values():
            follower.subscribe_again()

    def _follow(self) -> None:
        self._following.start(self._ask_for_copy())

    async def _ask_for_copy(self) -> None:
        """Ask for a copy, once the master knows about it: the next agent waits for the workers that may have one."""
        while not self._master_knows:
            try:
                await self._ask_master("egg-shares")
                self._master_knows = True
            except RequestTimeout:
                continue
            except MessengerError:  # the master is gone, or its channel: this worker ends, too
                return
        self._tell("follow", None)

    def _tell(self, action: str, data: Any) -> None:
        if self._connection is not None:
            with contextlib.suppress(MessengerClosed):
                self._connection.send(action, data)

    def on_request(self, connection: DirectConnection, request_key: RequestKey, action: str, data: Any) -> bool:
        if action != "copy":
            return False
        connection.reply(request_key, FrameKind.REPLY, self._copy.copy(), limited=False)
        return True

    def on_message(self, connection: DirectConnection, action: str, data: Any) -> None:
        if action == "agent":
            connection.agent = convert(data, int)
            self._leave_dead(connection)
        elif connection is self._latest:  # else it is late: an agent that this worker has left is speaking
            self._act_on(action, data)

    def _act_on(self, action: str, data: Any) -> None:
        if action == "value":
            name, key, value = convert(data, tuple[str, bytes, Any])
            if follower := self._followers.get(name):
                follower.receive(key, value)
        elif action == "change":
            change = convert(data, Change)
            if self._copy.apply(*change) and self._shared is not None:
                self._shared.notify(change)
        elif action == "copy":
            self._take_copy(read_copy(data))
        elif action == "leaders":
            self._leaders = set(data)

    def on_closed(self, connection: DirectConnection) -> None:
        if self._connection is connection:
            self._connection = None
            self._welcomed.clear()

    def _take_copy(self, copy: TableCopy) -> None:
        changed, is_first = self._copy.replace(copy), not self._has_copy.is_set()
        self._has_copy.set()
        if self._shared is not None and not is_first:
            for change in changed:
                self._shared.notify(change)
