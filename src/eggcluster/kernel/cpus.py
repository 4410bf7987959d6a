"""Finds how many CPUs this process may really use. Runs in the process that starts a cluster.

Two limits count: the affinity mask (taskset, cpusets) and the CPU quota of the control group (containers, systemd).
`os.cpu_count()` knows neither: in a container with two CPUs it returns the 64 of the machine.
"""

import math
import os
from collections.abc import Iterator

CGROUP_MOUNT = "sys/fs/cgroup"


def available_cpus(root: str = "/") -> int:
    """Return how many workers can run at the same time, at least 1; never raise.

    A fraction counts as a whole CPU. With a quota of 1.5 CPUs, a single worker could not use all of it, and a second
    one costs only some throttling when both are busy. The JVM and Go round up, too.
    """
    quota = cgroup_quota(root)
    return max(1, affinity() if quota is None else min(affinity(), math.ceil(quota)))


def affinity() -> int:
    """Return the number of CPUs in this process's mask, or of the machine's CPUs if there is no mask (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cgroup_quota(root: str = "/") -> float | None:
    """Return the tightest CPU quota of this process's group and its parents, in CPUs. None: no limit."""
    unified, legacy = cgroup_paths(_read(os.path.join(root, "proc/self/cgroup")))
    found = [*_quotas_v2(root, unified), *_quotas_v1(root, legacy)]
    return min((quota for quota in found if quota is not None), default=None)


def cgroup_paths(text: str) -> tuple[str | None, str | None]:
    """Return the paths in the unified hierarchy and in v1's cpu controller from `/proc/self/cgroup` (cgroups(7))."""
    unified = legacy = None
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            unified = path
        elif "cpu" in controllers.split(","):
            legacy = path
    return unified, legacy


def quota_v2(text: str) -> float | None:
    """Return the CPUs of a `cpu.max` such as "150000 100000"; None for "max 100000" and for invalid text."""
    quota, _, period = text.strip().partition(" ")
    return quota_v1(quota, period or "100000")  # the kernel's default period


def quota_v1(quota: str, period: str) -> float | None:
    """Return the CPUs of `cpu.cfs_quota_us` and `cpu.cfs_period_us`; None for -1 and for invalid text."""
    try:
        time, span = int(quota), int(period)
    except ValueError:
        return None
    return time / span if time > 0 and span > 0 else None


def _quotas_v2(root: str, path: str | None) -> Iterator[float | None]:
    for group in _upwards(path):
        yield quota_v2(_read(os.path.join(root, CGROUP_MOUNT, group, "cpu.max")))


def _quotas_v1(root: str, path: str | None) -> Iterator[float | None]:
    for group in _upwards(path):
        folder = os.path.join(root, CGROUP_MOUNT, "cpu", group)
        yield quota_v1(
            _read(os.path.join(folder, "cpu.cfs_quota_us")), _read(os.path.join(folder, "cpu.cfs_period_us"))
        )


def _upwards(path: str | None) -> Iterator[str]:
    # A container without a cgroup namespace gets the host's path, which it cannot see. Its own limit is at the top of
    # its mount, so every parent is read; a missing file means no limit.
    if path is None:
        return
    group = os.path.normpath("/" + path).strip("/")
    while group:
        yield group
        group = os.path.dirname(group)
    yield ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, ValueError):
        return ""
