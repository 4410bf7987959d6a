"""What workers had counted when they died, so that no counter of the cluster goes back. Runs in the master."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.model.http_counters import HttpCounts
from eggcluster.model.lives.worker import Worker

Living = Iterable[tuple[Worker, HeartbeatPage]]


class PastCounters:
    """Sums by slot over dead workers."""

    def __init__(self) -> None:
        self._connections: Counter[int] = Counter()
        self._http: dict[int, HttpCounts] = {}

    def fold(self, worker: Worker, page: HeartbeatPage) -> None:
        """Add what a worker has counted that is known dead, from its page."""
        living = [(worker, page)]
        self._connections, self._http = self.connections(living), self.http(living)

    def connections(self, living: Living) -> Counter[int]:
        """Return by slot how many connections were accepted, up to now by these workers."""
        sums = self._connections.copy()
        for worker, page in living:
            sums[worker.slot] += page.read().accepted
        return sums

    def http(self, living: Living) -> dict[int, HttpCounts]:
        """Return by slot what has come of HTTP requests, up to now with these workers."""
        sums = defaultdict(HttpCounts, {slot: counts.copy() for slot, counts in self._http.items()})
        for worker, page in living:
            sums[worker.slot].add(page.http)
        return dict(sums)
