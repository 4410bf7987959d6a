"""Owns the figures of one benchmark, and how they are read: medians, worst ones, ratios. Runs in the benchmark."""

import statistics
from dataclasses import dataclass, field
from operator import truediv


@dataclass(frozen=True)
class Record:
    """One figure of one turn. Rates are requests/s, times seconds, sizes bytes."""

    row: str
    label: str
    metric: str
    value: float


@dataclass
class Result:
    """The records of all rounds; a server without one has its reason in `absent`."""

    date: str
    machine: dict[str, str]
    versions: dict[str, dict[str, str]]
    absent: dict[str, str]
    notes: list[str]
    seconds: int
    load_before: float
    load_after: float = 0.0
    rounds: int = 0
    records: list[Record] = field(default_factory=list)

    def labels(self, row: str) -> list[str]:
        """Which servers have a figure in the row, in the order of their first turn."""
        return list(dict.fromkeys(record.label for record in self.records if record.row == row))

    def values(self, row: str, label: str, metric: str) -> list[float]:
        """Those of all rounds, in their order."""
        return [r.value for r in self.records if (r.row, r.label, r.metric) == (row, label, metric)]

    def median(self, row: str, label: str, metric: str) -> float:
        return statistics.median(self.values(row, label, metric))

    def ratio(self, row: str, label: str, rival: str, metric: str) -> float | None:
        """The median over the rounds; each ratio is of turns of one round, because the machine's pace drifts."""
        ratios = list(map(truediv, self.values(row, label, metric), self.values(row, rival, metric)))
        return statistics.median(ratios) if ratios else None
