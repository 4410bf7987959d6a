"""Owns how the engine benchmark's result is shown: tables, the dated page. Runs in the benchmark."""

from collections.abc import Callable

from benchmarks.engine_peers.contestants import NAMES
from benchmarks.engine_peers.result import Result
from benchmarks.engine_peers.row import MANY, ROWS, Row, many_connections
from benchmarks.http_peers.load import CONNECTIONS

Grid = list[list[str]]  # the heading first
REFERENCE = {"asgi": "uvicorn", "wsgi": "gunicorn, gthread"}
SECOND = "granian"
MIB, KIB = 2**20, 2**10


def tables(result: Result) -> dict[str, Grid]:
    """Those that have figures."""
    grids = {
        f"Requests, {CONNECTIONS} connections: median (worst round)": requests(result),
        f"Memory of the worker with {MANY:,} idle connections: median (worst round)": memory(result),
    }
    return {title: grid for title, grid in grids.items() if len(grid) > 1}


def requests(result: Result) -> Grid:
    """A line for each row and server."""
    grid = [["", "server", "requests/s", "CPU a request, µs", "p50, µs", "p99, µs", "RSS, MiB", "PSS, MiB"]]
    for rival in ("uvicorn or gthread", SECOND):
        grid[0] += [f"requests/s : {rival}", f"CPU : {rival}"]
    for row in ROWS:
        if row.measure is not many_connections:
            grid += [[row.title, label, *line(result, row, label)] for label in ordered(result, row)]
    return grid


def line(result: Result, row: Row, label: str) -> list[str]:
    figures = [
        cell(result, row, label, "rate", 1, ",.0f", min),
        cell(result, row, label, "cpu", 1e-6, ",.1f", max),
        *(cell(result, row, label, metric, 1e-6, ",.0f", max) for metric in ("p50", "p99")),
        *(f"{result.median(row.name, label, metric) / MIB:.1f}" for metric in ("rss", "pss")),
    ]
    for rival in (REFERENCE[row.interface], SECOND):
        figures += [ratio(result, row, label, rival, metric) for metric in ("rate", "cpu")]
    return figures


def memory(result: Result) -> Grid:
    grid = [["server", "RSS, MiB", "PSS, MiB", "RSS before, MiB", "a connection, KiB", "a connection : uvicorn"]]
    for row in ROWS:
        if row.measure is many_connections:
            for label in ordered(result, row):
                sizes = [cell(result, row, label, name, MIB, ".1f", max) for name in ("rss", "pss", "before")]
                each = cell(result, row, label, "each", KIB, ".2f", max)
                grid.append([label, *sizes, each, ratio(result, row, label, REFERENCE["asgi"], "each")])
    return grid


def ordered(result: Result, row: Row) -> list[str]:
    """The labels of a row: trees of eggcluster first, then the others as in NAMES."""
    others = NAMES[1:]

    def place(label: str) -> int:
        name = label.partition(",")[0]
        return others.index(name) if name in others else -1

    return sorted(result.labels(row.name), key=place)


def cell(
    result: Result,
    row: Row,
    label: str,
    metric: str,
    unit: float,
    spec: str,
    worst: Callable[[list[float]], float],
) -> str:
    values = result.values(row.name, label, metric)
    return f"{result.median(row.name, label, metric) / unit:{spec}} ({worst(values) / unit:{spec}})"


def ratio(result: Result, row: Row, label: str, rival: str, metric: str) -> str:
    if label == rival:
        return ""
    value = result.ratio(row.name, label, rival, metric)
    return "-" if value is None else f"{value:.2f}"


def facts(result: Result) -> list[str]:
    """The lines that the tables need beside them: machine, versions, what failed, what is missing."""
    lines = [f"{result.date}, interleaved rounds: {result.rounds}, {result.seconds} s of load a turn, one worker each"]
    lines.append(", ".join(f"{name}: {value}" for name, value in result.machine.items()))
    lines.append(f"1-minute load average: {result.load_before:.1f} before, {result.load_after:.1f} at the end")
    for name, versions in result.versions.items():
        lines.append(f"{name}: " + ", ".join(f"{part} {version}" for part, version in versions.items()))
    for metric, what in (("failed", "requests failed"), ("closed", "idle connections were closed by the server")):
        lines += [
            f"{r.label}, {r.row}: {r.value:,.0f} {what}" for r in result.records if r.metric == metric and r.value
        ]
    return lines + result.notes + [f"{name}: absent ({reason})" for name, reason in result.absent.items()]


def markdown(result: Result) -> str:
    lines = []
    for title, (heading, *body) in tables(result).items():
        lines += [f"## {title}", ""]
        lines += [f"| {' | '.join(row)} |" for row in (heading, ["---"] * len(heading), *body)]
        lines.append("")
    lines += [f"- {fact}" for fact in facts(result)]
    return "\n".join(lines) + "\n"


def page(result: Result) -> str:
    return f"# HTTP engines, {result.date}\n\nMade by `benchmarks/engines.py`.\n\n{markdown(result)}"
