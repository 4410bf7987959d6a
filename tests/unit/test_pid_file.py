"""The pid file: checked, atomic, and removed by its owner alone."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from eggcluster.errors import OptionsError
from eggcluster.runtime.pid_file import PidFile, read_pid
from eggcluster.runtime.runtime_dir import RuntimeDir


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can have a content: like a full disk, but for the words of the error. Only for as long
    as nothing else writes: pytest's own output may be a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_nothing_is_an_options_error_and_leaves_nothing(path: Path) -> None:
    pid_file = PidFile(str(path))
    with pytest.raises(OptionsError, match="cannot be written: File too large"), full_disk():
        pid_file.claim()
    pid_file.release()
    assert not list(path.parent.iterdir())


def test_a_runtime_directory_on_such_a_disk_is_one_as_well(tmp_path: Path) -> None:
    runtime_dir = RuntimeDir("board", str(tmp_path / "run"))
    refusal = r"the runtime directory .*/run/board cannot be used: File too large"
    with pytest.raises(OptionsError, match=refusal), full_disk():
        runtime_dir.claim(str(tmp_path))
    runtime_dir.release()
    assert not list(tmp_path.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "egg.pid"


def test_what_is_no_file_is_refused_and_stays_what_it_is(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(OptionsError, match="is not a regular file; use another path"):
        PidFile(str(path)).claim()
    assert path.is_fifo()


def test_it_holds_the_pid_from_claim_to_release(path: Path) -> None:
    pid_file = PidFile(str(path))
    pid_file.claim()
    assert read_pid(str(path)) == os.getpid()
    pid_file.release()
    assert not path.exists()
    pid_file.release()


def test_a_living_process_keeps_its_file(path: Path) -> None:
    path.write_text(f"{os.getppid()}\n")
    pid_file = PidFile(str(path))
    with pytest.raises(OptionsError, match=f"belongs to the running process {os.getppid()}"):
        pid_file.claim()
    pid_file.release()
    assert read_pid(str(path)) == os.getppid()


@pytest.mark.parametrize(
    "content", ["", "no number", "999999999", "-1", "0", "1" * 400, "\udcff".encode(errors="surrogateescape")]
)
def test_what_a_dead_process_left_or_nonsense_is_replaced(path: Path, content: str | bytes) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    pid_file = PidFile(str(path))
    pid_file.claim()
    assert read_pid(str(path)) == os.getpid()
    pid_file.release()


def test_a_file_that_another_has_taken_over_is_not_removed(path: Path) -> None:
    pid_file = PidFile(str(path))
    pid_file.claim()
    path.write_text("4242\n")
    pid_file.release()
    assert read_pid(str(path)) == 4242


def test_a_file_that_cannot_be_written_is_an_options_error(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"pid_file: .* cannot be written"):
        PidFile(str(tmp_path / "nowhere" / "egg.pid")).claim()


def test_a_directory_is_no_pid_file_and_nothing_is_left_of_the_attempt(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OptionsError, match="cannot be written"):
        PidFile(str(path)).claim()
    assert list(path.parent.iterdir()) == [path]
