"""Owns the picture of the messenger benchmark's result. Needs matplotlib; runs in the benchmark."""

from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.messenger_peers.contestants import NAMES
from benchmarks.messenger_peers.measure import PING_SIZE
from benchmarks.messenger_peers.report import OWN, UNITS, Result

COLOURS = dict(zip(NAMES, ("tab:red", "tab:blue", "tab:green", "tab:purple", "tab:orange"), strict=True))


def draw(result: Result, path: Path) -> None:
    """Write a PNG: throughput to one and to eight, CPU, round trips."""
    # Not by statement: mypy has to pass where it is not installed.
    import_module("matplotlib").use("Agg")
    pyplot = import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(2, 2, figsize=(13, 9), layout="constrained")
    figure.suptitle(f"Messages between processes, {result.date}, {result.machine.get('CPU', '')}")
    most = max(receivers for receivers, _ in result.cases("rate"))
    by_size(axes[0][0], result, "rate", 1, 1, "app → agent", "messages/s")
    by_size(axes[0][1], result, "rate", most, 1, f"broadcast, agent → {most} workers", "deliveries/s")
    by_size(axes[1][0], result, "cpu", 1, 1e6, "CPU per message, app → agent, all processes", "µs")
    round_trips(axes[1][1], result)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def by_size(axis: Any, result: Result, metric: str, receivers: int, scale: float, title: str, unit: str) -> None:
    sizes = [size for number, size in result.cases(metric) if number == receivers]
    for name in result.versions:
        values = [result.median(name, metric, receivers, size) for size in sizes]
        points = [(size, value * scale) for size, value in zip(sizes, values, strict=True) if value is not None]
        width = 2.5 if name == OWN else 1.3
        axis.plot(*zip(*points, strict=True), marker="o", label=name, color=COLOURS[name], linewidth=width)
    axis.set(title=title, xscale="log", yscale="log", xlabel="payload", ylabel=unit)
    axis.set_xticks(sizes, [UNITS.get(size, str(size)) for size in sizes])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend()


def round_trips(axis: Any, result: Result) -> None:
    """Grouped bars: p50 and p99, idle and under load; our request beside the bare messages."""
    parts = ["idle p50", "idle p99", "load p50", "load p99"]
    rows = [(OWN, "ping"), (OWN, "request"), *((name, "ping") for name in result.versions if name != OWN)]
    rows = [row for row in rows if row[0] in result.versions]
    width = 0.8 / len(rows)
    for number, (name, task) in enumerate(rows):
        values = [result.median(name, f"{task} {part}", 1, PING_SIZE) or 0.0 for part in parts]
        places = [place + number * width for place in range(len(parts))]
        request = task == "request"
        label, hatch = (f"{name}, request", "//") if request else (name, None)
        axis.bar(places, [v * 1e6 for v in values], width, label=label, color=COLOURS[name], hatch=hatch)
    axis.set_xticks([place + 0.4 - width / 2 for place in range(len(parts))], parts)
    axis.set(title="round trip app → agent → app", yscale="log", ylabel="µs")
    axis.set_ylim(top=axis.get_ylim()[1] * 8)  # room for the legend
    axis.grid(alpha=0.3, axis="y")
    axis.legend(loc="upper center", ncols=3)
