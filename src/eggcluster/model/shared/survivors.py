"""Which worker's copy the shared dictionary is restored from, and when. Pure; runs in the agent.

Of two copies, the one with the higher version contains every change of the other. A worker that is silent may have the
highest: its event loop may stand still for seconds. The master knows which workers live, so an agent without a copy
waits for the silent ones as long as they live. With a copy at hand it waits for the others for a limited time. A copy
that comes later is merged (`Store.adopt`).
"""

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from eggcluster.model.shared.shared_copy import CopyMark

OTHER_COPIES_TIMEOUT = 1.0  # seconds after the first copy: a blocked loop must not delay the writes of all workers

Connection = TypeVar("Connection", bound=Hashable)


class Verdict(Enum):
    """What to do if no copy is to be fetched now."""

    WAIT = "wait"  # for a worker that lives and may have a copy
    OPEN = "open"  # every worker has answered or is dead, and there is no copy


@dataclass
class ArrivedWorker:
    """A worker that has said hello. `mark` is None if it has no usable copy; `failures` counts fetches that failed."""

    worker_id: int
    mark: CopyMark | None
    since: float
    failures: int = 0


class Survivors(Generic[Connection]):
    """The workers of former agents. `worker_ids` are those that may have a copy, as the master knows.

    A worker has arrived as long as a connection on which it said hello is open. Instants are monotonic, in seconds.
    """

    def __init__(self, worker_ids: Iterable[int]) -> None:
        self.silent = set(worker_ids)
        self._arrived: dict[Connection, ArrivedWorker] = {}

    def arrive(self, connection: Connection, worker_id: int, mark: CopyMark | None, now: float) -> None:
        """Note a hello, and the mark of the worker's copy; None means that it has none."""
        self._arrived[connection] = ArrivedWorker(worker_id, mark, now)
        self.silent.discard(worker_id)

    def leave(self, connection: Connection) -> None:
        """Note that a connection has closed. A worker with a copy is silent again until its next hello."""
        arrival = self._arrived.pop(connection, None)
        if arrival is None or arrival.mark is None:
            return
        if all(other.worker_id != arrival.worker_id for other in self._arrived.values()):
            self.silent.add(arrival.worker_id)

    def keep(self, living: Collection[int]) -> set[int]:
        """Await only `living` workers from now on; return the silent ones that are dead."""
        dead = self.silent.difference(living)
        self.silent -= dead
        return dead

    def refuse(self, connection: Connection) -> None:
        """Note that the copy is unusable."""
        if arrival := self._arrived.get(connection):
            arrival.mark = None

    def fail(self, connection: Connection) -> None:
        """Note that the copy did not come in time: the others are asked before this one is asked again."""
        if arrival := self._arrived.get(connection):
            arrival.failures += 1

    def choose(self, now: float) -> "Connection | Verdict":
        """Return the connection to fetch the copy from, or what to do without one."""
        copies = {each: arrival for each, arrival in self._arrived.items() if arrival.mark is not None}
        if not copies:
            return Verdict.WAIT if self.silent else Verdict.OPEN
        first = min(arrival.since for arrival in copies.values())
        if self.silent and now < first + OTHER_COPIES_TIMEOUT:
            return Verdict.WAIT
        return min(copies, key=lambda each: (copies[each].failures, -_version(copies[each])))

    def mark(self, connection: Connection) -> CopyMark | None:
        """Return the mark of the copy at the other end; None if there is none, or the connection has closed."""
        arrival = self._arrived.get(connection)
        return arrival.mark if arrival is not None else None


def _version(arrival: ArrivedWorker) -> int:
    return arrival.mark.version if arrival.mark is not None else 0
