"""Owns the picture of the HTTP benchmark's result. Needs matplotlib; runs in the benchmark."""

from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.http_peers.contestants import EGG_STICKY, OWN_ACCEPTOR, OWN_BPF, SERVERS, SPREAD
from benchmarks.http_peers.result import Result
from benchmarks.http_peers.turn import ADDRESSED, BALANCED, WAYS

COLOURS = dict(zip(SERVERS, ("tab:red", "tab:blue", "tab:green", "tab:purple", "tab:brown", "tab:orange"), strict=True))
FADED = {OWN_BPF: 0.7, OWN_ACCEPTOR: 0.4, EGG_STICKY: 0.5}


def draw(result: Result, path: Path) -> None:
    """Write a PNG: throughput and CPU of all, balance, sticky."""
    # Not by statement: mypy has to pass where it is not installed.
    import_module("matplotlib").use("Agg")
    pyplot = import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(2, 2, figsize=(13, 9), layout="constrained")
    figure.suptitle(f"HTTP with 2 workers, {result.date}, {result.machine.get('CPU', '')}")
    titles = dict(zip(WAYS, ("32 connections that stay", "a connection for each request"), strict=True))
    bars(axes[0][0], result, SERVERS, titles, "rate", 1, "requests/s (lowest, median, highest)")
    bars(axes[0][1], result, SERVERS, titles, "cpu", 1e6, "CPU of the servers a request, µs")
    balance(axes[1][0], result)
    sticky = {f"{ADDRESSED} {way}": title for way, title in titles.items()}
    bars(axes[1][1], result, SPREAD, sticky, "rate", 1, "requests/s of 32 clients with an address each")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def bars(
    axis: Any, result: Result, names: tuple[str, ...], cases: dict[str, str], metric: str, scale: float, title: str
) -> None:
    """Groups of bars, a group for each case; the lines show the range of the runs."""
    present = [name for name in names if name in result.versions]
    width = 0.8 / max(1, len(present))
    for number, name in enumerate(present):
        places = [place + number * width for place in range(len(cases))]
        runs = [[value * scale for value in result.values(name, case, metric)] or [0.0] for case in cases]
        medians = [(result.median(name, case, metric) or 0.0) * scale for case in cases]
        below = [median - min(run) for median, run in zip(medians, runs, strict=True)]
        above = [max(run) - median for median, run in zip(medians, runs, strict=True)]
        colour = COLOURS[name.partition(",")[0]]
        look = {"color": colour, "alpha": FADED.get(name, 1.0), "capsize": 2}
        axis.bar(places, medians, width, yerr=[below, above], label=name, **look)
    axis.set_xticks([place + 0.4 - width / 2 for place in range(len(cases))], list(cases.values()))
    axis.set(title=title)
    axis.grid(alpha=0.3, axis="y")
    axis.legend()


def balance(axis: Any, result: Result) -> None:
    """A point for each run: 1 is even, 2 is all on one worker."""
    present = [name for name in SERVERS if name in result.versions]
    for number, name in enumerate(present):
        for place, count in enumerate(BALANCED):
            values = result.values(name, f"balance {count}", "most over mean")
            centre = place + (number + 0.5) * 0.8 / len(present) - 0.4
            spots = [centre + 0.05 * (run / len(values) - 0.5) for run in range(len(values))]
            label = name if place == 0 else None
            axis.scatter(spots, values, s=12, alpha=0.6, color=COLOURS[name], label=label)
    axis.set_xticks(range(len(BALANCED)), [f"{count} connections" for count in BALANCED])
    axis.set(title="most loaded worker over the mean, each run", ylim=(0.95, 2.3))
    axis.grid(alpha=0.3, axis="y")
    axis.legend(ncols=3, loc="upper center")
