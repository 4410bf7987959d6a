"""The shared clients and the shared dictionary of a worker, in a cluster and outside of one. Runs in all workers."""

import asyncio
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from eggcluster.errors import RemoteError, RequestTimeout, SharedFull, SharedTooLarge
from eggcluster.kernel.threads import start_daemon
from eggcluster.model.shared.shared_store import Write
from eggcluster.model.shared.shared_table import Table
from eggcluster.worker.sharing.client_spec import ClientSpec, ClusterClient
from eggcluster.worker.sharing.leader import Leader
from eggcluster.worker.sharing.shared import Shared
from eggcluster.worker.sharing.shared_client import ClientBackend, Declare, SharedClient
from eggcluster.worker.sharing.shared_writer import SharedWriter

T = TypeVar("T")
REFUSALS: dict[str, type[Exception]] = {
    "SharedFull": SharedFull,
    "SharedTooLarge": SharedTooLarge,
    "TypeError": TypeError,
    "ValueError": ValueError,
}
IN_THE_LOOP = "this code runs in the worker's event loop, which must not wait for itself: await here, or use a thread"


class Sharing(ABC):
    """The clients and the dictionary of one worker, made when the application first uses one of them."""

    def __init__(self) -> None:
        self._clients: dict[str, tuple[ClientSpec, SharedClient]] = {}
        self.on_declare: Declare = lambda repeat: None

    def cluster(self, cls: type[T], name: str | None, timeout: float) -> ClusterClient[T]:
        """Begin a client of that class."""
        return ClusterClient(cls, self.create, name, timeout)

    def create(self, spec: ClientSpec) -> SharedClient:
        """Return the client; the same one for the same name. Raise ValueError if the specs differ."""
        if spec.name in self._clients:
            known, client = self._clients[spec.name]
            if others := known.differs_in(spec):
                raise ValueError(
                    f'a client "{spec.name}" was created before, with another {others}; give this one a name='
                )
            return client
        client = SharedClient(spec, self._open(spec), self.declare)
        self._clients[spec.name] = spec, client
        return client

    def declare(self, repeat: Callable[[Any], object]) -> None:
        """Call `repeat` with the sharing of each other worker that shares the registering module."""
        self.on_declare(repeat)

    @abstractmethod
    def _open(self, spec: ClientSpec) -> ClientBackend:
        """Return the implementation of a new client."""

    @property
    @abstractmethod
    def shared(self) -> Shared:
        """The shared dictionary. The first use requests a copy for this process."""

    @abstractmethod
    def open(self) -> None:
        """Accept connections from other processes."""

    def take(self, follower: socket.socket) -> None:
        """Take the connection of an app worker; only an agent gets them."""
        raise AssertionError("BUG: app workers connect to the agent only")

    @abstractmethod
    async def start(self) -> None:
        """Start the clients and the copy that were requested so far, as part of the boot. May be called again."""

    @abstractmethod
    def booted(self) -> None:
        """Note that the worker has booted."""

    @abstractmethod
    def agent_gone(self, generation: int) -> None:
        """Note that the agent of this generation has died, as the master reports. The report may come late."""

    @abstractmethod
    async def close(self) -> bool:
        """Close, after all hooks; return False if something raised."""


def run_in(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
    """Carry out `work` in `loop`, and return what to await for its result in the running loop, which may be another."""
    if is_running(loop):
        return work
    return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


def wait_in(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], timeout: float | None) -> T:
    """Carry out `work` in `loop`, and wait for its result in this thread. RequestTimeout after `timeout` seconds,
    RuntimeError in the loop's own thread, which would wait for itself."""
    if is_running(loop):
        work.close()
        raise RuntimeError(IN_THE_LOOP)
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result(timeout)
    except TimeoutError:
        if future.done():  # it is the work's own error
            raise
        future.cancel()
        raise RequestTimeout(f"no answer within {timeout:g}s") from None


def refusal(kind: str, text: str) -> Exception:
    """Return the agent's reason why it has refused a write, as the error that the writer gets."""
    return REFUSALS[kind](text) if kind in REFUSALS else RemoteError(kind, text, "")


def start_loop(name: str) -> asyncio.AbstractEventLoop:
    """Start an event loop in a daemon thread of its own, which ends when the loop is stopped."""
    loop = asyncio.new_event_loop()

    def live() -> None:
        loop.run_forever()
        loop.close()

    start_daemon(live, name=name)
    return loop


def is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this code runs in `loop`; False in a thread without a loop, and while a module is imported."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class LocalSharing(Sharing):
    """Sharing outside of a cluster, as in an application's tests. Clients are real ones, started at their first use;
    the dictionary belongs to this process."""

    def __init__(self) -> None:
        super().__init__()
        self._writer = SharedWriter(0, lambda change: self._shared.notify(change), sweeps=False)
        self._writer.open()
        self._lock = threading.RLock()  # a subscriber may write, too
        self._shared = Shared(self)

    def _open(self, spec: ClientSpec) -> ClientBackend:
        return Leader(spec)

    @property
    def shared(self) -> Shared:
        return self._shared

    def open(self) -> None: ...

    async def start(self) -> None: ...

    def booted(self) -> None: ...

    def agent_gone(self, generation: int) -> None: ...

    async def close(self) -> bool:
        return True

    # -- the shared dictionary --------------------------------------------------------------------------

    @property
    def table(self) -> Table:
        return self._writer.store

    @property
    def writable(self) -> bool:
        return True

    def wait(self, work: Coroutine[Any, Any, T], timeout: float | None, *, blocks: bool) -> T:
        """Carry out `work` in an event loop of its own. There is no agent to wait for."""
        if not _has_loop():
            return asyncio.run(work)
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(asyncio.run, work).result()

    async def write(self, write: Write) -> Any:
        with self._lock:  # threads write, too; nothing is awaited in it
            return await self._writer.write(write)

    async def ready(self) -> None: ...
