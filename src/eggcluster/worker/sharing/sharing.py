"""What a process shares with the others: its clients and the dictionary; and how that is alone. Runs anywhere."""

import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from eggcluster.model.shared.shared_store import Write
from eggcluster.model.shared.shared_table import Table
from eggcluster.worker.sharing.client_spec import ClientSpec, ClusterClient
from eggcluster.worker.sharing.leader import Leader
from eggcluster.worker.sharing.shared import Shared
from eggcluster.worker.sharing.shared_client import ClientBackend, Declare, SharedClient
from eggcluster.worker.sharing.shared_writer import SharedWriter

T = TypeVar("T")


class Sharing(ABC):
    """One for each process, made when the application first asks for a client or for `shared`."""

    def __init__(self) -> None:
        self._clients: dict[str, tuple[ClientSpec, SharedClient]] = {}
        self.on_declare: Declare = lambda repeat: None

    def cluster(self, cls: type[T], name: str | None, timeout: float) -> ClusterClient[T]:
        """The beginning of a client of that class."""
        return ClusterClient(cls, self.create, name, timeout)

    def create(self, spec: ClientSpec) -> SharedClient:
        """The client; the same name again gives the same one, ValueError where its blueprint is another."""
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
        """Call `repeat` with the sharing of each other worker that shares the module which registers something."""
        self.on_declare(repeat)

    @abstractmethod
    def _open(self, spec: ClientSpec) -> ClientBackend:
        """What stands behind a new client."""

    @property
    @abstractmethod
    def shared(self) -> Shared:
        """The dictionary. Its first use asks for a copy in this process."""

    @abstractmethod
    def open(self) -> None:
        """Another process needs the sharing of this one."""

    def take(self, follower: socket.socket) -> None:
        """An app worker has connected; only an agent has such."""
        raise AssertionError("BUG: app workers connect to the agent only")

    @abstractmethod
    async def start(self) -> None:
        """Part of the boot: start what was asked for so far. May be called again for what has come since."""

    @abstractmethod
    def booted(self) -> None:
        """The worker's boot is over."""

    @abstractmethod
    def agent_gone(self) -> None:
        """The master says so."""

    @abstractmethod
    async def close(self) -> bool:
        """Part of the close, after all hooks; False where something raised."""


class LocalSharing(Sharing):
    """Outside of a cluster, so in an application's own tests: clients are real ones, started at their first use, and
    the dictionary is this process's own."""

    def __init__(self) -> None:
        super().__init__()
        self._writer = SharedWriter(0, lambda change: self._shared.notify(change), sweeps=False)
        self._writer.open()
        self._shared = Shared(self)

    def _open(self, spec: ClientSpec) -> ClientBackend:
        return Leader(spec)

    @property
    def shared(self) -> Shared:
        return self._shared

    def open(self) -> None: ...

    async def start(self) -> None: ...

    def booted(self) -> None: ...

    def agent_gone(self) -> None: ...

    async def close(self) -> bool:
        return True

    # -- the dictionary's home ---------------------------------------------------------------------------

    @property
    def table(self) -> Table:
        return self._writer.store

    def write(self, write: Write) -> Awaitable[Any]:
        return self._writer.write(write)

    async def ready(self) -> None: ...
