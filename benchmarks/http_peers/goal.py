"""Owns what the HTTP benchmark's figures are to be. Runs in the benchmark."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.http_peers.contestants import EGG_STICKY, OWN, OWN_ACCEPTOR, OWN_BPF
from benchmarks.http_peers.result import Result
from benchmarks.http_peers.turn import ADDRESSED, KEEP, WAYS


@dataclass(frozen=True)
class Goal:
    """A figure that was promised. `at_most`: it may not be higher; else it may not be lower."""

    text: str
    value: Callable[[Result], float | None]
    bound: float
    unit: str = " x"
    at_most: bool = False
    runs: Callable[[Result], list[float]] | None = None  # what `value` is the median of

    def row(self, result: Result) -> list[str]:
        value = self.value(result)
        bound = f"{'≤' if self.at_most else '≥'} {self.bound:g}{self.unit}"
        if value is None:
            return [self.text, "-", "-", bound, "not measured"]
        kept = value <= self.bound if self.at_most else value >= self.bound
        shown = f"{value:.0f}" if self.bound >= 10 else f"{value:.3f}"
        return [self.text, f"{shown}{self.unit}", self.middle_half(result), bound, "reached" if kept else "missed"]

    def middle_half(self, result: Result) -> str:
        """Where half of the runs are: a bound within it is not decided by their median."""
        runs = self.runs(result) if self.runs else []
        if len(runs) < 4:
            return "-"
        low, _, high = statistics.quantiles(runs, n=4)
        return f"{low:.2f} to {high:.2f}"


def beside(
    text: str, name: str, rival: str, case: str, bound: float, metric: str = "rate", *, at_most: bool = False
) -> Goal:
    """The ratio of two servers."""
    return Goal(
        text,
        lambda result: result.ratio(name, rival, case, metric),
        bound,
        at_most=at_most,
        runs=lambda result: result.ratios(name, rival, case, metric),
    )


def slowest(case: str) -> Callable[[Result], float | None]:
    def milliseconds(result: Result) -> float | None:
        seconds = result.median(OWN, case, "slowest")
        return seconds * 1e3 if seconds is not None else None

    return milliseconds


GOALS = (
    *(beside(f"requests/s, {way} : uvicorn", OWN, "uvicorn", way, 1.0) for way in WAYS),
    *(beside(f"CPU a request, {way} : uvicorn", OWN, "uvicorn", way, 1.0, "cpu", at_most=True) for way in WAYS),
    Goal(f"requests/s, {KEEP} : uvicorn's worst run", lambda r: r.ratio_to_worst(OWN, "uvicorn", KEEP), 1.5),
    Goal(
        "32 connections on 2 workers: runs with most over mean ≤ 1.25",
        lambda r: r.runs_within(OWN, "balance 32", 1.25),
        19,
        " of 20",
    ),
    *(beside(f"sticky by BPF : not sticky, {way}", OWN_BPF, OWN, f"{ADDRESSED} {way}", 0.97) for way in WAYS),
    beside(f"sticky by acceptor : not sticky, {KEEP}", OWN_ACCEPTOR, OWN, f"{ADDRESSED} {KEEP}", 0.9),
    *(
        beside(f"sticky by {via} : Egg's sticky, {way}", name, EGG_STICKY, f"{ADDRESSED} {way}", 1.0)
        for via, name in (("BPF", OWN_BPF), ("acceptor", OWN_ACCEPTOR))
        for way in WAYS
    ),
    Goal("slowest new connection after a second of a blocked worker", slowest("blocked, later"), 200, " ms", True),
    Goal("slowest new connection while a killed worker is replaced", slowest("killed"), 200, " ms", True),
)
