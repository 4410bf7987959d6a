"""Owns how the HTTP benchmark's result is shown: tables, the dated page. Runs in the benchmark."""

from pathlib import Path

from benchmarks.http_peers.contestants import EGG, EGG_STICKY, OWN, OWN_ACCEPTOR, OWN_BPF, SERVERS, SPREAD
from benchmarks.http_peers.faults import BLOCKED, FAULTY, REPLACED
from benchmarks.http_peers.goal import GOALS
from benchmarks.http_peers.load import CONNECTIONS
from benchmarks.http_peers.result import Result
from benchmarks.http_peers.turn import ADDRESSED, BALANCED, CLOSE, KEEP
from rich.console import Console
from rich.table import Table

Grid = list[list[str]]  # the heading first
PLAIN = {OWN_BPF: OWN, OWN_ACCEPTOR: OWN, EGG_STICKY: EGG}
UNSHARED = (
    "Load generator and servers share the cores: the rates are what both can do together, CPU is the servers' own"
)


def tables(result: Result) -> dict[str, Grid]:
    grids = {
        "Goals": [["goal", "measured", "middle half of the runs", "wanted", ""], *(goal.row(result) for goal in GOALS)],
        f"{CONNECTIONS} connections that stay (wrk)": loads(result, KEEP),
        f"A connection for each request, {CONNECTIONS} at a time (wrk)": loads(result, CLOSE),
        "Balance: connections of the most loaded worker over the mean (median, worst)": balance(result),
        f"Sticky: {CONNECTIONS} clients with an address each, connections that stay": stickiness(result, KEEP),
        f"Sticky: {CONNECTIONS} clients with an address each, a connection for each request": stickiness(result, CLOSE),
    }
    title = f"4 workers, one blocked for {BLOCKED} s; one killed, its replacement boots for {REPLACED:g} s"
    return grids | ({f"{title}: slowest new connection (failed)": faults(result)} if has_faults(result) else {})


def loads(result: Result, way: str) -> Grid:
    """A row for each server: throughput with its range, CPU, latencies, our ratios."""
    grid = [["", "requests/s", "lowest to highest", "p50, µs", "p99, µs", "p99.9, µs", "CPU a request, µs", "failed"]]
    grid[0] += [f"requests/s, {OWN} : it", f"CPU, {OWN} : it"]
    for name in SERVERS:
        rates = result.values(name, way, "rate")
        if rates:
            figures = [rate(result, name, way), f"{min(rates):,.0f} to {max(rates):,.0f}", *times(result, name, way)]
            failed = f"{sum(result.values(name, way, 'failed')):.0f}"
            ratios = [ratio(result.ratio(OWN, name, way, metric)) for metric in ("rate", "cpu")]
            grid.append([name, *figures, failed, *(ratios if name != OWN else ["", ""])])
    return grid


def stickiness(result: Result, way: str) -> Grid:
    grid = [["", "requests/s", "sticky : not", "p50, µs", "p99, µs", "p99.9, µs", "CPU a request, µs"]]
    case = f"{ADDRESSED} {way}"
    for name in SPREAD:
        if result.values(name, case, "rate"):
            beside = ratio(result.ratio(name, PLAIN[name], case, "rate")) if name in PLAIN else ""
            grid.append([name, rate(result, name, case), beside, *times(result, name, case)])
    return grid


def balance(result: Result) -> Grid:
    grid = [["", *(f"{count} connections" for count in BALANCED), "32 connections: runs ≤ 1.25, of 20"]]
    for name in SERVERS:
        runs = {count: result.values(name, f"balance {count}", "most over mean") for count in BALANCED}
        if runs[32]:
            medians = {count: result.median(name, f"balance {count}", "most over mean") for count in BALANCED}
            cells = [f"{medians[count]:.2f}, {max(runs[count]):.2f}" for count in BALANCED]
            grid.append([name, *cells, f"{result.runs_within(name, 'balance 32', 1.25):.0f}"])
    return grid


def faults(result: Result) -> Grid:
    cases = {"blocked, first second": "blocked: first second", "blocked, later": "blocked: later", "killed": "killed"}
    grid = [["", *cases.values(), "connections"]]
    for name in FAULTY:
        cells = []
        for case in cases:
            seconds, failed = (result.median(name, case, metric) for metric in ("slowest", "failed"))
            cells.append("-" if seconds is None else f"{seconds * 1e3:,.0f} ms ({failed:.0f})")
        count = sum(result.median(name, case, "connections") or 0 for case in cases)
        if count:
            grid.append([name, *cells, f"{count:,.0f}"])
    return grid


def has_faults(result: Result) -> bool:
    return any(record.case == "killed" for record in result.records)


def rate(result: Result, name: str, case: str) -> str:
    return f"{result.median(name, case, 'rate') or 0:,.0f}"


def times(result: Result, name: str, case: str) -> list[str]:
    """Microseconds: the latencies and the CPU."""
    cells = [f"{(result.median(name, case, metric) or 0) * 1e6:,.0f}" for metric in ("p50", "p99", "p999")]
    return [*cells, f"{(result.median(name, case, 'cpu') or 0) * 1e6:,.1f}"]


def ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def facts(result: Result) -> list[str]:
    """The lines that every table needs beside it: machine, versions, what is missing."""
    plan = result.plan
    runs = f"{plan.wrk} s a run of wrk, {plan.clients:g} s one of the clients with addresses"
    lines = [f"{result.date}, medians of all runs in {result.rounds} interleaved rounds, {runs}"]
    lines.append(", ".join(f"{name}: {value}" for name, value in result.machine.items()) + f". {UNSHARED}")
    lines.append(f"1-minute load average: {result.load_before:.1f} before, {result.load_after:.1f} at the end")
    for name, versions in result.versions.items():
        size = result.median(name, "answer", "bytes")
        lines.append(f"{name}: " + ", ".join(f"{part} {version}" for part, version in versions.items()))
        lines[-1] += f"; an answer of {size:.0f} bytes" if size else ""
    return lines + [f"{name}: absent ({reason})" for name, reason in result.absent.items()]


def markdown(result: Result, picture: Path | None) -> str:
    lines = [f"# HTTP, {result.date}", "", "Made by `benchmarks/http.py`.", ""]
    lines += [f"- {fact}" for fact in facts(result)]
    if picture is not None:
        lines += ["", f"![throughput, CPU, balance, sticky]({picture.name})"]
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
