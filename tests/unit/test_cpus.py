"""How many CPUs there are to use: affinity and control groups, from files made for the occasion."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.kernel import cpus

MOUNT = "sys/fs/cgroup"


def put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("max 100000\n", None),
        ("150000 100000\n", 1.5),
        ("50000 100000\n", 0.5),
        ("200000\n", 2.0),
        ("", None),
        ("garbage here", None),
        ("100000 0", None),
    ],
)
def test_quota_v2(text: str, quota: float | None) -> None:
    assert cpus.quota_v2(text) == quota


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [("-1\n", "100000\n", None), ("250000\n", "100000\n", 2.5), ("", "", None), ("0", "100000", None)],
)
def test_quota_v1(quota: str, period: str, expected: float | None) -> None:
    assert cpus.quota_v1(quota, period) == expected


@given(st.text())
def test_no_text_raises(text: str) -> None:
    cpus.quota_v2(text)
    cpus.cgroup_paths(text)


def test_paths_of_a_hybrid_system() -> None:
    text = "12:pids:/a\n4:cpu,cpuacct:/b/c\n1:name=systemd:/d\n0::/e/f\n"
    assert cpus.cgroup_paths(text) == ("/e/f", "/b/c")


def test_a_path_with_a_colon_is_kept_whole() -> None:
    assert cpus.cgroup_paths("0::/docker:x/y\n") == ("/docker:x/y", None)


def test_tightest_quota_of_all_parents_counts_v2(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/slice/pod/box\n")
    put(tmp_path, f"{MOUNT}/slice/pod/box/cpu.max", "max 100000")
    put(tmp_path, f"{MOUNT}/slice/pod/cpu.max", "120000 100000")
    put(tmp_path, f"{MOUNT}/slice/cpu.max", "800000 100000")
    assert cpus.cgroup_quota(str(tmp_path)) == 1.2


def test_own_limit_at_the_top_of_the_mount_v1(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "3:cpu,cpuacct:/docker/0123\n")
    put(tmp_path, f"{MOUNT}/cpu/cpu.cfs_quota_us", "50000")
    put(tmp_path, f"{MOUNT}/cpu/cpu.cfs_period_us", "100000")
    assert cpus.cgroup_quota(str(tmp_path)) == 0.5
    assert cpus.available_cpus(str(tmp_path)) == 1


def test_a_path_out_of_the_namespace_stays_under_the_mount(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/../../other\n")
    put(tmp_path, f"{MOUNT}/cpu.max", "300000 100000")
    assert cpus.cgroup_quota(str(tmp_path)) == 3.0


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert cpus.cgroup_quota(str(tmp_path)) is None
    assert cpus.available_cpus(str(tmp_path)) == cpus.affinity() >= 1


def test_a_quota_never_gives_more_than_the_affinity(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/\n")
    put(tmp_path, f"{MOUNT}/cpu.max", "99900000 100000")
    assert cpus.available_cpus(str(tmp_path)) == cpus.affinity()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity mask on this system")
@pytest.mark.skipif(cpus.affinity() < 2, reason="needs two CPUs")
def test_a_fraction_counts_as_a_whole_one(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/\n")
    put(tmp_path, f"{MOUNT}/cpu.max", "150000 100000")
    assert cpus.available_cpus(str(tmp_path)) == 2
