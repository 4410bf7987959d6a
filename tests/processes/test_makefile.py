"""The Makefile's own words: the list of targets, and what it says where Python is too old."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def make(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Make, as a user calls it: these tests may themselves be run by one."""
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)


def test_make_alone_lists_the_targets() -> None:
    listed = make()
    assert listed.returncode == 0
    names = [line.split()[1] for line in listed.stdout.splitlines()]
    assert {"demo", "test", "check", "unit", "bench"} <= set(names)


def test_a_python_that_is_too_old_is_answered_in_one_line(tmp_path: Path) -> None:
    refused = make("demo", "PYTHON=false", f"VENV={tmp_path}/venv")
    assert refused.returncode != 0
    line = "eggcluster needs Python 3.11 or later; false is not: make demo PYTHON=python3.12"
    assert refused.stderr.splitlines()[0] == line
    assert not (tmp_path / "venv").exists()


def test_an_old_virtual_environment_is_noticed_too(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/no/such/python")
    refused = make("unit", f"VENV={tmp_path}")
    assert f"{tmp_path}/bin/python is not: make clean, then make unit" in refused.stderr
