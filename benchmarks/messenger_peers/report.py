"""Owns how the messenger benchmark's result is read: medians, goals, tables, the dated page. Runs in the benchmark."""

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.messenger_peers.contestants import NAMES
from benchmarks.messenger_peers.measure import LOAD_RATE, LOAD_SIZE, PING_SIZE, Record
from rich.console import Console
from rich.table import Table

OWN = "eggcluster"
MIB = 2**20
UNITS = {16: "16 B", 256: "256 B", 4096: "4 KiB", 65536: "64 KiB", MIB: "1 MiB"}


@dataclass
class Result:
    """The records of all rounds; a contestant without one has its reason in `absent`."""

    date: str
    machine: dict[str, str]
    versions: dict[str, dict[str, str]]
    absent: dict[str, str]
    seconds: float
    rounds: int = 0
    records: list[Record] = field(default_factory=list)

    def median(self, name: str, metric: str, receivers: int, size: int) -> float | None:
        """The median over the rounds; None where there is no record."""
        wanted = (name, metric, receivers, size)
        values = [r.value for r in self.records if (r.name, r.metric, r.receivers, r.size) == wanted]
        return statistics.median(values) if values else None

    def ratio(self, rival: str, metric: str, receivers: int, size: int, own_metric: str = "") -> float | None:
        """eggcluster's median divided by the rival's."""
        own = self.median(OWN, own_metric or metric, receivers, size)
        other = self.median(rival, metric, receivers, size)
        return own / other if own is not None and other else None

    def cases(self, metric: str) -> list[tuple[int, int]]:
        """The receivers and sizes that a metric was measured with."""
        return sorted({(record.receivers, record.size) for record in self.records if record.metric == metric})


Grid = list[list[str]]  # the heading first


# --- The goals ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """A figure that was promised. `at_most`: it may not be higher; else it may not be lower."""

    text: str
    value: Callable[[Result], float | None]
    bound: float
    unit: str
    at_most: bool = False

    def row(self, result: Result) -> list[str]:
        value = self.value(result)
        bound = f"{'≤' if self.at_most else '≥'} {self.bound:,g}{self.unit}"
        if value is None:
            return [self.text, "-", bound, "not measured"]
        kept = value <= self.bound if self.at_most else value >= self.bound
        shown = f"{value:,.0f}" if self.bound >= 1000 else f"{value:.2f}"
        return [self.text, f"{shown}{self.unit}", bound, "reached" if kept else "missed"]


def small_ratio(rival: str) -> Callable[[Result], float | None]:
    return lambda result: result.ratio(rival, "rate", 1, 16)


def trip_ratio(rival: str, own: str = "ping") -> Callable[[Result], float | None]:
    return lambda result: result.ratio(rival, "ping idle p50", 1, PING_SIZE, f"{own} idle p50")


def gigabytes(result: Result) -> float | None:
    rate = result.median(OWN, "rate", 1, MIB)
    return rate * MIB / 1e9 if rate is not None else None


GOALS = (
    Goal("messages/s of 16 B, app → agent : mp.Queue", small_ratio("mp.Queue"), 2, " x"),
    Goal("messages/s of 16 B, app → agent : Egg", small_ratio("Egg"), 5, " x"),
    Goal("round trip p50, messages : mp.Queue", trip_ratio("mp.Queue"), 1.0, " x", at_most=True),
    Goal("round trip p50, messages : Egg", trip_ratio("Egg"), 0.7, " x", at_most=True),
    Goal("round trip p50, request : mp.Queue", trip_ratio("mp.Queue", "request"), 1.0, " x", at_most=True),
    Goal("round trip p50, request : Egg's messages", trip_ratio("Egg", "request"), 0.7, " x", at_most=True),
    Goal("broadcast of 16 B, agent → 8 workers", lambda r: r.median(OWN, "rate", 8, 16), 500_000, " deliveries/s"),
    Goal("payloads of 1 MiB, app → agent", gigabytes, 1, " GB/s"),
)


# --- The tables ---------------------------------------------------------------------------------------------


def goals(result: Result) -> Grid:
    return [["goal", "measured", "wanted", ""], *(goal.row(result) for goal in GOALS)]


def matrix(result: Result, metric: str, show_value: Callable[[float, int], str]) -> Grid:
    """A row for each number of receivers and size, a column for each contestant, and our ratios."""
    grid = [["", *NAMES, f"{OWN} : mp.Queue", f"{OWN} : Egg"]]
    for receivers, size in result.cases(metric):
        way = "app → agent" if receivers == 1 else f"agent → {receivers} workers"
        values = [result.median(name, metric, receivers, size) for name in NAMES]
        cells = ["absent" if value is None else show_value(value, size) for value in values]
        ratios = [result.ratio(rival, metric, receivers, size) for rival in ("mp.Queue", "Egg")]
        grid.append([f"{way}, {UNITS.get(size, size)}", *cells, *("-" if r is None else f"{r:.2f}" for r in ratios)])
    return grid


def rate_text(value: float, size: int) -> str:
    volume = f" ({value * size / 1e9:.2f} GB/s)" if size >= 64 * 2**10 else ""
    return f"{value:,.0f}{volume}"


def latencies(result: Result) -> Grid:
    """A row for each contestant and state; our request is a row of its own."""
    grid = [["", *(f"{state} {part}" for state in ("idle", "load") for part in ("p50", "p99", "p99.9")), "load/s"]]
    for name, task in [(OWN, "request"), *((name, "ping") for name in NAMES)]:
        metrics = [f"{task} {state} {part}" for state in ("idle", "load") for part in ("p50", "p99", "p99.9")]
        values = [result.median(name, metric, 1, PING_SIZE) for metric in metrics]
        cells = ["absent" if value is None else f"{value * 1e6:,.0f}" for value in values]
        load = result.median(name, f"{task} load arrived", 1, LOAD_SIZE)
        title = f"{name}, request" if task == "request" else name
        grid.append([title, *cells, "-" if load is None else f"{load:,.0f}"])
    return grid


def tables(result: Result) -> dict[str, Grid]:
    trips = f"Round trips app → agent → app, µs, {PING_SIZE} B; load: {LOAD_RATE:,} messages/s of {LOAD_SIZE} B beside"
    return {
        "Goals": goals(result),
        "Deliveries/s": matrix(result, "rate", rate_text),
        trips: latencies(result),
        "CPU per delivery, µs (user and system, all processes)": matrix(
            result, "cpu", lambda value, _: f"{value * 1e6:,.2f}"
        ),
    }


def facts(result: Result) -> list[str]:
    """The lines that every table needs beside it: machine, versions, what is missing."""
    lines = [f"{result.date}, median of {result.rounds} interleaved rounds, {result.seconds:g} s a measurement"]
    lines.append(", ".join(f"{name}: {value}" for name, value in result.machine.items()))
    lines.append("1-minute load average at the end: " + f"{os.getloadavg()[0]:.1f}")
    for name, versions in result.versions.items():
        lines.append(f"{name}: " + ", ".join(f"{part} {version}" for part, version in versions.items()))
    return lines + [f"{name}: absent ({reason})" for name, reason in result.absent.items()]


def markdown(result: Result, picture: Path | None) -> str:
    lines = [f"# The messenger, {result.date}", "", "Made by `benchmarks/messenger.py`.", ""]
    lines += [f"- {fact}" for fact in facts(result)]
    if picture is not None:
        lines += ["", f"![throughput, latency and CPU]({picture.name})"]
    for title, (heading, *body) in tables(result).items():
        lines += ["", f"## {title}", ""]
        lines += [f"| {' | '.join(row)} |" for row in (heading, ["---"] * len(heading), *body)]
    return "\n".join(lines) + "\n"


def show(result: Result, console: Console) -> None:
    for title, (heading, *body) in tables(result).items():
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(heading):
            table.add_column(column, justify="right" if number else "left")
        for row in body:
            table.add_row(*row)
        console.print(table)
    for fact in facts(result):
        console.print(fact, markup=False)
