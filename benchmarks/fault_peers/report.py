"""Owns how the result of the faults benchmark is read: tables and the dated page. Runs in the benchmark."""

import math
import os
from dataclasses import dataclass, field

from benchmarks.fault_peers.contestants import HUNG, WORKERS
from benchmarks.fault_peers.fault import FAULTS
from benchmarks.fault_peers.trial import IMPORT, PATIENCE, Trial
from rich.console import Console
from rich.table import Table

Grid = list[list[str]]  # the heading first


@dataclass
class Result:
    """All trials; a fault that a server has no notion of has none."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    trials: list[Trial] = field(default_factory=list)

    def of(self, name: str, fault: str) -> list[Trial]:
        return [trial for trial in self.trials if (trial.name, trial.fault) == (name, fault)]


def kinds(failures: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(failures.items())) or "0"


def recovery(trial: Trial, limit: float) -> str:
    if trial.recovery is not None:
        return f"{trial.recovery:.1f} s"
    return f"not in {limit:g} s" if trial.survived else "never: it has ended"


def merged(trials: list[Trial]) -> list[str]:
    """A row's cells: the runs one after the other where there are several."""
    limits = {fault.name: fault.watch for fault in FAULTS}
    columns = [
        [str(trial.requests) for trial in trials],
        [kinds(trial.held) for trial in trials],
        [kinds(trial.others) for trial in trials],
        [recovery(trial, limits[trial.fault]) for trial in trials],
        [f"{trial.slowest:.2f} s" for trial in trials],
        ["yes" if trial.survived else "no" for trial in trials],
    ]
    return [" / ".join(values) for values in columns]


def one_fault(result: Result, fault: str) -> Grid:
    grid = [["", "requests", "failed, held by the lost worker", "failed, others", "whole again", "slowest", "survived"]]
    for name in result.versions:
        if trials := result.of(name, fault):
            grid.append([name, *merged(trials)])
    return grid


def orphans(result: Result) -> Grid:
    grid = [["", "processes left after 5 s", "all gone after"]]
    for name in result.versions:
        if trials := result.of(name, "leader"):
            gone = [f"{t.gone_after:.2f} s" if t.gone_after is not None else "-" for t in trials]
            grid.append([name, " / ".join(str(trial.orphans) for trial in trials), " / ".join(gone)])
    return grid


def summary(result: Result) -> Grid:
    """What could have been avoided: failures besides the lost worker's own, from the least to the most, and the time to
    recovery, the median."""
    grid = [["others' failed requests; whole again", *result.versions]]
    for fault in FAULTS:
        cells = [cell(result.of(name, fault.name), fault.watch) for name in result.versions]
        if any(cell != "-" for cell in cells):
            grid.append([fault.title, *cells])
    return grid


def cell(trials: list[Trial], limit: float) -> str:
    if not trials:
        return "-"
    if trials[0].orphans is not None:
        return f"{spread([trial.orphans or 0 for trial in trials])} orphans"
    failed = spread([sum(trial.others.values()) for trial in trials])
    # The median; whoever was not whole again took longest.
    middle = sorted(trials, key=lambda trial: math.inf if trial.recovery is None else trial.recovery)[len(trials) // 2]
    return f"{failed}; {recovery(middle, limit)}"


def spread(counts: list[int]) -> str:
    """From the least to the most."""
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} to {most}"


def tables(result: Result) -> dict[str, Grid]:
    found = {"Summary": summary(result)}
    for fault in FAULTS:
        grid = orphans(result) if fault.ends_leader else one_fault(result, fault.name)
        if len(grid) > 1:
            found[fault.title[0].upper() + fault.title[1:]] = grid
    return found


def facts(result: Result) -> list[str]:
    lines = [f"{result.date}, {WORKERS} workers, an application whose import takes {IMPORT} s"]
    lines.append(", ".join(f"{name}: {value}" for name, value in result.machine.items()))
    trials = max((len(result.of(t.name, t.fault)) for t in result.trials), default=0)
    lines.append(f"trials of each: {trials}; 1-minute load average at the end: {os.getloadavg()[0]:.1f}")
    lines.append(f"a worker counts as hung after {HUNG} s where a server looks; clients wait {PATIENCE:g} s")
    return lines + [f"{name}: {version}" for name, version in result.versions.items()]


def markdown(result: Result) -> str:
    lines = [
        f"# Faults, {result.date}",
        "",
        "Made by `benchmarks/faults.py`; what the columns say is in its README.",
        "",
    ]
    lines += [f"- {fact}" for fact in facts(result)]
    for title, (heading, *body) in tables(result).items():
        lines += ["", f"## {title}", ""]
        lines += [f"| {' | '.join(row)} |" for row in (heading, ["---"] * len(heading), *body)]
    return "\n".join(lines) + "\n"


def show(result: Result, console: Console) -> None:
    for title, (heading, *body) in tables(result).items():
        table = Table(*heading, title=title, title_justify="left")
        for row in body:
            table.add_row(*row)
        console.print(table)
    for fact in facts(result):
        console.print(fact, markup=False)
