"""Owns the figures of one benchmark, and how they are read: medians, ratios. Runs in the benchmark."""

import statistics
from dataclasses import dataclass, field
from operator import truediv

from benchmarks.http_peers.turn import Record, SupervisorSettings


@dataclass
class Result:
    """The records of all rounds; a server without one has its reason in `absent`."""

    date: str
    machine: dict[str, str]
    versions: dict[str, dict[str, str]]
    absent: dict[str, str]
    plan: SupervisorSettings
    load_before: float
    load_after: float = 0.0
    rounds: int = 0
    records: list[Record] = field(default_factory=list)

    def values(self, name: str, case: str, metric: str) -> list[float]:
        """Those of all runs, in their order."""
        return [r.value for r in self.records if (r.name, r.case, r.metric) == (name, case, metric)]

    def median(self, name: str, case: str, metric: str) -> float | None:
        """None where there is no record."""
        values = self.values(name, case, metric)
        return statistics.median(values) if values else None

    def ratios(self, name: str, rival: str, case: str, metric: str) -> list[float]:
        """Of runs that belong together: the machine's pace drifts from round to round."""
        return list(map(truediv, self.values(name, case, metric), self.values(rival, case, metric)))

    def ratio(self, name: str, rival: str, case: str, metric: str) -> float | None:
        """The median of those."""
        ratios = self.ratios(name, rival, case, metric)
        return statistics.median(ratios) if ratios else None

    def ratio_to_worst(self, name: str, rival: str, case: str) -> float | None:
        """The median throughput by the rival's lowest."""
        own, others = self.median(name, case, "rate"), self.values(rival, case, "rate")
        return own / min(others) if own is not None and others else None

    def runs_within(self, name: str, case: str, bound: float) -> float | None:
        """How many of 20 runs have had a balance of at most `bound`."""
        values = self.values(name, case, "most over mean")
        return 20 * sum(value <= bound for value in values) / len(values) if values else None
