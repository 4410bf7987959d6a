"""The runtime directory: private, locked by a living master, free again when that one has ended."""

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from eggcluster.errors import OptionsError
from eggcluster.runtime.runtime_dir import Description, RuntimeDir, running_clusters, runtime_root
from eggcluster.runtime.safe_files import write_atomically


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "run")


@pytest.fixture
def claimed(root: str) -> Iterator[RuntimeDir]:
    runtime = RuntimeDir("shop", root)
    runtime.claim("/srv/shop")
    yield runtime
    runtime.release()


def test_the_root_is_where_the_environment_says() -> None:
    assert runtime_root({"EGG_RUNTIME_DIR": "/a", "XDG_RUNTIME_DIR": "/b"}) == "/a"
    assert runtime_root({"XDG_RUNTIME_DIR": "/b"}) == "/b/eggcluster"
    assert runtime_root({}) == f"/tmp/eggcluster-{os.getuid()}"


def test_a_claimed_directory_is_private_and_describes_its_cluster(claimed: RuntimeDir, root: str) -> None:
    assert stat.S_IMODE(os.stat(claimed.path).st_mode) == 0o700
    assert claimed.describe() == Description(os.getpid(), "shop", "/srv/shop")
    assert [d.name for d in running_clusters(root)] == ["shop"]
    assert claimed.is_held()


def test_a_second_cluster_of_the_same_name_is_refused_in_one_line(claimed: RuntimeDir, root: str) -> None:
    with pytest.raises(OptionsError) as caught:
        RuntimeDir("shop", root).claim("/elsewhere")
    (line,) = caught.value.problems
    assert line.startswith(f'name: a cluster "shop" is already running (pid {os.getpid()}, /srv/shop)')
    assert "--name" in line
    assert claimed.describe() is not None


def test_a_cleaner_of_tmp_leaves_it_alone_as_long_as_the_cluster_lives(claimed: RuntimeDir) -> None:
    """What systemd-tmpfiles does before it looks into a directory: tmpfiles.d(5)."""
    cleaner = os.open(claimed.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(cleaner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        claimed.release()
        fcntl.flock(cleaner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(cleaner)


def test_another_name_is_another_cluster(claimed: RuntimeDir, root: str) -> None:
    other = RuntimeDir("other", root)
    other.claim("/srv/other")
    assert [d.name for d in running_clusters(root)] == ["other", "shop"]
    other.release()
    assert [d.name for d in running_clusters(root)] == ["shop"]


def test_a_release_leaves_nothing_and_frees_the_name(root: str) -> None:
    for _ in range(2):
        runtime = RuntimeDir("shop", root)
        runtime.claim("/srv/shop")
        runtime.release()
        runtime.release()
        assert not os.path.exists(root)


def test_what_a_dead_cluster_left_is_taken_over(root: str) -> None:
    folder = Path(root) / "shop"
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    for name in ("lock", "control.sock", "cluster.json"):
        (folder / name).write_text("old")
    runtime = RuntimeDir("shop", root)
    assert runtime.describe() is None
    runtime.claim("/srv/shop")
    assert not (folder / "control.sock").exists()
    assert runtime.describe() == Description(os.getpid(), "shop", "/srv/shop")
    runtime.release()


def test_a_lock_whose_file_was_removed_meanwhile_is_not_taken_for_ones_own(root: str) -> None:
    """A release may remove the file between another master's open(2) and flock(2)."""
    first = RuntimeDir("shop", root)
    first.claim("/srv/shop")
    fd = os.open(Path(first.path) / "lock", os.O_RDWR)
    first.release()
    fcntl.flock(fd, fcntl.LOCK_EX)
    second = RuntimeDir("shop", root)
    second.claim("/srv/shop")
    assert second.is_held()
    os.close(fd)
    assert second.is_held()
    second.release()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o755])
def test_a_directory_that_is_open_to_others_is_refused(root: str, mode: int) -> None:
    folder = Path(root) / "shop"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    with pytest.raises(OptionsError, match="is not a private directory of this user"):
        RuntimeDir("shop", root).claim("/srv/shop")


def test_a_link_in_place_of_the_directory_is_refused(root: str, tmp_path: Path) -> None:
    Path(root).mkdir()
    (tmp_path / "trap").mkdir(mode=0o700)
    (Path(root) / "shop").symlink_to(tmp_path / "trap")
    with pytest.raises(OptionsError):
        RuntimeDir("shop", root).claim("/srv/shop")
    assert not list((tmp_path / "trap").iterdir())


def test_a_root_that_cannot_be_made_is_an_options_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionsError, match="cannot be used"):
        RuntimeDir("shop", str(tmp_path / "file" / "run")).claim("/srv/shop")


def test_no_cluster_is_no_description(root: str) -> None:
    assert RuntimeDir("shop", root).describe() is None
    assert list(running_clusters(root)) == []


def test_a_file_is_written_as_a_whole_and_leaves_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(str(path), b"one")
    write_atomically(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_cannot_be_made_is_not_tried_for_ever(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "deeper")
    with pytest.raises(OptionsError, match="cannot be used"):
        RuntimeDir("board", str(tmp_path / "dangling" / "x")).claim("/srv")


def test_one_whose_lock_was_removed_leaves_the_next_ones_directory_alone(claimed: RuntimeDir, root: str) -> None:
    os.unlink(os.path.join(claimed.path, "lock"))
    os.unlink(os.path.join(claimed.path, "cluster.json"))
    second = RuntimeDir("shop", root)
    second.claim("/srv/second")
    claimed.release()
    assert second.describe() == Description(os.getpid(), "shop", "/srv/second")
    second.release()
    assert not os.path.exists(root)


@pytest.mark.parametrize("variable", ["EGG_RUNTIME_DIR", "XDG_RUNTIME_DIR"])
def test_a_relative_root_begins_at_the_current_directory(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    assert runtime_root({variable: "run"}).startswith(f"{tmp_path}/gone/run")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OptionsError, match=f'^{variable}: "run" is relative, and the current directory no longer'):
        runtime_root({variable: "run"})


def test_a_base_directory_that_is_not_utf8_is_described(root: str) -> None:
    runtime = RuntimeDir("shop", root)
    runtime.claim("/srv/\udcff")
    assert runtime.describe() == Description(os.getpid(), "shop", "/srv/\\udcff")
    runtime.release()


@pytest.mark.parametrize("name", ["lock", "control.sock", "cluster.json"])
def test_a_directory_in_the_place_of_a_file_is_an_options_error(root: str, name: str) -> None:
    for folder in (root, os.path.join(root, "shop"), os.path.join(root, "shop", name)):
        os.mkdir(folder, mode=0o700)
    runtime = RuntimeDir("shop", root)
    with pytest.raises(OptionsError, match=r"^the runtime directory .*/shop cannot be used: Is a directory; set EGG_"):
        runtime.claim("/srv/shop")
    runtime.release()
