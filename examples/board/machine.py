"""The machine's figures, as the board shows them. Read from /proc, in any start mode; psutil is asked elsewhere."""

import os
import time
from pathlib import Path
from typing import Any

PROC = Path("/proc")


class Machine:
    """Reports counters (CPU time, network bytes) as the difference to the last measurement."""

    def __init__(self) -> None:
        self._time, self._cores, self._traffic = _now()

    def measure(self) -> dict[str, Any]:
        then, cores, traffic = self._time, self._cores, self._traffic
        self._time, self._cores, self._traffic = _now()
        seconds = max(self._time - then, 0.001)
        used, total = memory()
        return {
            "time": time.time(),
            "cpu": [_percent(*pair) for pair in zip(cores, self._cores, strict=False)],
            "memory": {"used": used, "total": total},
            "load": list(os.getloadavg()),
            # A card that was unplugged takes its total with it: never below zero.
            "network": {name: max(count - traffic[name], 0) / seconds for name, count in self._traffic.items()},
        }


def _now() -> tuple[float, list[tuple[float, float]], dict[str, int]]:
    traffic = {"received": 0, "sent": 0, "loopback": 0}  # loopback traffic is counted apart
    for name, (received, sent) in cards().items():
        if name.startswith("lo"):
            traffic["loopback"] += sent
        else:
            traffic["received"] += received
            traffic["sent"] += sent
    return time.monotonic(), cores(), traffic


def _percent(before: tuple[float, float], now: tuple[float, float]) -> float:
    busy, total = (new - old for new, old in zip(now, before, strict=True))
    return round(min(max(100 * busy / total, 0), 100), 1) if total > 0 else 0.0


def cores() -> list[tuple[float, float]]:
    """Return for each core its busy time and its whole time."""
    if not PROC.exists():
        import psutil

        return [(sum(times) - times.idle, sum(times)) for times in psutil.cpu_times(percpu=True)]
    lines = [line.split() for line in (PROC / "stat").read_text().splitlines()]
    # proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guests' time is within the user's.
    times = [[int(text) for text in line[1:9]] for line in lines if line[0].startswith("cpu") and line[0] != "cpu"]
    return [(sum(core) - core[3] - core[4], sum(core)) for core in times]


def memory() -> tuple[int, int]:
    """Return the used bytes, and all bytes."""
    if not PROC.exists():
        import psutil

        found = psutil.virtual_memory()
        return found.total - found.available, found.total
    lines = [line.split() for line in (PROC / "meminfo").read_text().splitlines()]
    kib = {line[0].removesuffix(":"): int(line[1]) for line in lines}
    return (kib["MemTotal"] - kib["MemAvailable"]) * 1024, kib["MemTotal"] * 1024


def cards() -> dict[str, tuple[int, int]]:
    """Return for each network card the bytes received and sent."""
    if not PROC.exists():
        import psutil

        counters = psutil.net_io_counters(pernic=True)
        return {name: (card.bytes_recv, card.bytes_sent) for name, card in counters.items()}
    lines = [line.partition(":") for line in (PROC / "net" / "dev").read_text().splitlines()[2:]]
    counts = {name.strip(): fields.split() for name, _, fields in lines}
    return {name: (int(fields[0]), int(fields[8])) for name, fields in counts.items()}
