"""Paths keep the links that the user sees, as long as they name the same file."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from eggcluster.cli.cluster_lookup import find_cluster
from eggcluster.errors import ClusterNotRunning, OptionsError
from eggcluster.options import parse_options
from eggcluster.options.visible_path import follow, visible, working_directory
from eggcluster.runtime.runtime_dir import RuntimeDir


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with two releases, and `current`, which leads to the first; the current directory is there."""
    for name in ("r1", "r2"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "app.py").write_text("app = print\n")
        (tmp_path / name / "bin" / "python").write_text(name)
    turn(tmp_path, "r1")
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setenv("PWD", str(tmp_path / "current"))
    monkeypatch.setenv("EGG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


def turn(folder: Path, release: str) -> None:
    (folder / "new").symlink_to(release)
    os.replace(folder / "new", folder / "current")


def test_the_working_directory_is_the_shells_if_it_is_the_same(releases: Path) -> None:
    here, there = str(releases / "current"), str(releases / "r1")
    assert working_directory({"PWD": here}) == here
    for other in ("", "current", str(releases / "r2"), f"{here}/", f"{here}/.", str(releases / "none"), "/\0"):
        assert working_directory({"PWD": other}) == there
    turn(releases, "r2")
    assert working_directory({"PWD": here}) == there


def test_a_path_is_short_and_names_the_same_file(releases: Path) -> None:
    here = str(releases / "current")
    assert visible("", here) == visible(".", here) == here
    assert visible("app.py", here) == f"{here}/app.py"
    assert visible("bin/../app.py", here) == f"{here}/app.py"
    assert visible("../r2/app.py", here) == str(releases / "r2" / "app.py")
    (releases / "far").mkdir()
    (releases / "far" / "link").symlink_to(releases / "r1" / "bin")
    assert visible("link/../app.py", str(releases / "far")) == str(releases / "r1" / "app.py")
    assert visible("/none/../x", here) == "/x"


def test_a_file_of_the_release_is_followed_through_the_link(releases: Path) -> None:
    here, python = str(releases / "current"), str(releases / "r1" / "bin" / "python")
    assert follow(python, (here,)) == f"{here}/bin/python"
    assert follow(python, ("", f"{here}/bin")) == f"{here}/bin/python"
    assert follow(python, (str(releases / "r1"),)) == python
    assert follow("/usr/bin/python", (here,)) == "/usr/bin/python"


def test_options_keep_what_the_user_sees(releases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(releases / "current")
    monkeypatch.setattr(sys, "executable", str(releases / "r1" / "bin" / "python"))
    options = parse_options("app:app", pid_file="egg.pid", port=0)
    assert (options.base_dir, options.working_dir, options.name) == (here, here, "current")
    assert (options.pid_file, options.interpreter) == (f"{here}/egg.pid", f"{here}/bin/python")
    turn(releases, "r2")
    again = parse_options(options)
    assert (again.base_dir, again.working_dir, again.pid_file) == (here, here, f"{here}/egg.pid")


def test_a_command_finds_the_cluster_through_either_name(releases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = RuntimeDir("shop", str(releases / "run"))
    runtime.claim(str(releases / "current"))

    def found(base_dir: str | None = None) -> str:
        return find_cluster(base_dir=base_dir).name

    try:
        for base_dir in (None, "../current", str(releases / "r1")):
            assert found(base_dir) == "shop"
        turn(releases, "r2")
        for base_dir in (None, "../current", str(releases / "r1"), str(releases / "r2")):
            assert found(base_dir) == "shop", "by the link, by where it leads, by where it led at the start"
        monkeypatch.delenv("PWD")
        assert found() == "shop"
        monkeypatch.chdir(releases / "r2" / "bin")
        monkeypatch.setenv("PWD", str(releases / "current"))
        with pytest.raises(ClusterNotRunning):
            found()  # $PWD of another program says nothing
        monkeypatch.chdir(releases / "r1")
        shutil.rmtree(releases / "r1")
        assert found() == "shop", "the shell is still in the release that was removed"
        with pytest.raises(ClusterNotRunning, match=f"no cluster in {releases} is running"):
            found(str(releases))
        with pytest.raises(OptionsError, match="the current directory no longer exists"):
            found("bin")
    finally:
        runtime.release()
