"""The clients of the control socket, and which of them have room. Runs in the master.

Orders (`stop`, `reload`, `status`) always have room, however many clients are forgotten: each kind of client is bounded
by itself. A watcher or a run (`run-schedule`) beyond the bound is refused, and never dropped for another: both may last
for hours. A silent client or an order beyond it makes the oldest one of its kind go, because the newest one is the
least likely to be forgotten.
"""

import asyncio
from collections.abc import Iterator

from eggcluster.errors import ControlError
from eggcluster.kernel.descriptors import Descriptors
from eggcluster.master.listening.acceptor import RESERVE, SHARE

MAX_SILENT = 64  # clients that have not sent their command yet
MAX_ORDERS = 64  # clients that wait for an answer
MAX_RUNS = 64  # clients that wait for the end of a schedule's run
MAX_WATCHERS = 64


class Client:
    """One client, served by `task`."""

    def __init__(self, task: "asyncio.Task[None]", writer: asyncio.StreamWriter) -> None:
        self.task = task
        self.writer = writer
        self.outdone = False  # a newer client has taken its place


class Clients:
    """All clients, by kind, each kind the oldest first."""

    def __init__(self) -> None:
        self._silent: dict[Client, None] = {}
        self._orders: dict[Client, None] = {}
        self._runs: dict[Client, None] = {}
        self._watchers: dict[Client, None] = {}
        self._descriptors = Descriptors(RESERVE, SHARE)

    def arrive(self, client: Client) -> None:
        """Take in a client that has not sent its command yet."""
        _admit(client, self._silent, MAX_SILENT)

    def wait_for_answer(self, client: Client) -> None:
        """Note that the client has sent an order."""
        self._silent.pop(client, None)
        _admit(client, self._orders, MAX_ORDERS)

    def wait_for_run(self, client: Client) -> None:
        """Note that the client waits for a run. ControlError if there is no room for one more."""
        self._admit_or_refuse(client, self._runs, MAX_RUNS, "wait for the runs of schedules")

    def watch(self, client: Client) -> None:
        """Note that the client wants to watch. ControlError if there is no room for one more watcher."""
        self._admit_or_refuse(client, self._watchers, MAX_WATCHERS, "follow the cluster")

    def leave(self, client: Client) -> None:
        """Forget a client that has gone."""
        for kind in (self._silent, self._orders, self._runs, self._watchers):
            kind.pop(client, None)

    def __iter__(self) -> Iterator[Client]:
        return iter([*self._silent, *self._orders, *self._runs, *self._watchers])

    def _admit_or_refuse(self, client: Client, kind: dict[Client, None], most: int, what: str) -> None:
        self._silent.pop(client, None)
        if len(kind) >= most:
            raise ControlError(f"{most} clients {what} already; end one of them first")
        if self._descriptors.is_reserve(client.writer.get_extra_info("socket").fileno()):
            raise ControlError(f"the master has few file descriptors left (limit {self._descriptors.limit})")
        kind[client] = None


def _admit(client: Client, kind: dict[Client, None], most: int) -> None:
    """Add a client to its kind; the oldest one goes if there are too many."""
    while len(kind) >= most:
        oldest = next(iter(kind))
        del kind[oldest]
        oldest.outdone = True
        oldest.task.cancel()
    kind[client] = None
