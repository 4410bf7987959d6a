"""Files where other users may write, too: their links, files and directories are never followed or believed."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eggcluster.cli import start
from eggcluster.errors import OptionsError
from eggcluster.kernel.unix_socket import bind_with_mode, peer_of
from eggcluster.runtime.pid_file import PidFile
from eggcluster.runtime.runtime_dir import RuntimeDir, running_clusters
from eggcluster.runtime.safe_files import make_directories, open_log, untrusted_parent, user_name, write_atomically
from eggcluster.wording import one_line

NOBODY = 65534
THEM = user_name(NOBODY)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_modes_do_not_depend_on_the_umask(umask: int, tmp_path: Path) -> None:
    make_directories(str(tmp_path / "a" / "b"))
    assert {mode(tmp_path / "a"), mode(tmp_path / "a" / "b")} == {0o700}
    PidFile(str(tmp_path / "egg.pid")).claim()
    assert mode(tmp_path / "egg.pid") == 0o644
    write_atomically(str(tmp_path / "file"), b"")
    assert mode(tmp_path / "file") == 0o600
    os.close(open_log(str(tmp_path / "log")))
    assert mode(tmp_path / "log") == 0o600
    runtime = RuntimeDir("shop", str(tmp_path / "x" / "run"))
    runtime.claim("/")
    assert {mode(tmp_path / "x"), mode(runtime.root), mode(runtime.path)} == {0o700}
    runtime.release()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket's file has the mode that the system gives it")
@pytest.mark.parametrize("wanted", [None, 0o600, 0o660, 0o666])
def test_a_sockets_file_obeys_the_umask_or_its_option(umask: int, wanted: int | None, tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as sock:
        bind_with_mode(sock, str(tmp_path / "sock"), wanted)
    assert mode(tmp_path / "sock") == (0o666 & ~umask if wanted is None else wanted)


def test_a_link_beside_the_pid_file_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / f"egg.pid.{os.getpid()}").symlink_to(secret)
    (tmp_path / "egg.pid").symlink_to(secret)
    pid_file = PidFile(str(tmp_path / "egg.pid"))
    pid_file.claim()
    assert secret.read_text() == "secret"
    assert not (tmp_path / "egg.pid").is_symlink()
    pid_file.release()


def test_a_pid_file_that_others_could_write_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "egg.pid"
    path.write_text("1\n")
    path.chmod(0o666)
    PidFile(str(path)).claim()
    assert path.read_text() == f"{os.getpid()}\n"


@as_root
def test_a_pid_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "egg.pid"
    path.write_text("1\n")
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(OptionsError, match=rf"pid_file: .* is not safe: it belongs to {THEM}; use"):
        PidFile(str(path)).claim()


@as_root
@pytest.mark.parametrize("way", ["folder", "link", "chain", "up"])
def test_a_way_through_another_users_directory_or_link_is_refused(way: str, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    (tmp_path / "theirs" / "on").symlink_to(tmp_path / "ours")
    (tmp_path / "link").symlink_to("ours")
    os.lchown(tmp_path / "link", NOBODY, NOBODY)
    (tmp_path / "chain").symlink_to("theirs/on")
    (tmp_path / "theirs" / "down").mkdir()
    (tmp_path / "up").symlink_to("theirs/down/../../ours")
    folder = {"folder": "theirs"}.get(way, way)
    with pytest.raises(OptionsError, match=rf"is not safe: .*, on the way to it, belongs to {THEM}"):
        PidFile(str(tmp_path / folder / "egg.pid")).claim()
    runtime = RuntimeDir("shop", str(tmp_path / folder / "run"))
    with pytest.raises(OptionsError, match=f"belongs to {THEM}; set EGG_RUNTIME_DIR to a directory of yours"):
        runtime.claim("/")


def test_a_way_of_root_and_this_user_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("./real/../real")
    assert untrusted_parent(str(tmp_path / "link" / "x")) == ""
    with pytest.raises(FileNotFoundError):
        untrusted_parent(str(tmp_path / "missing" / "x"))
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OSError, match="Too many levels"):
        untrusted_parent(str(tmp_path / "round" / "x"))


@pytest.mark.parametrize("kind", ["link", "second name", "pipe"])
def test_a_daemons_log_is_a_plain_file(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, folder = tmp_path / "secret", tmp_path / "eggcluster"
    secret.write_text("secret")
    folder.mkdir()
    path = folder / "shop.log"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        (path.symlink_to if kind == "link" else path.hardlink_to)(secret)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(OSError, match=r"plain file|symbolic links|No such device"):
        open_log(start._log_path("shop"))
    assert secret.read_text() == "secret"


@as_root
def test_a_daemons_log_in_another_users_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "theirs"))
    with pytest.raises(OptionsError, match=f"belongs to {THEM}; set XDG_STATE_HOME"):
        start._log_path("shop")


@as_root
def test_a_command_does_not_look_into_another_users_runtime_directory(tmp_path: Path) -> None:
    root = tmp_path / "run"
    runtime = RuntimeDir("shop", str(root))
    runtime.claim("/srv/shop")
    os.chown(runtime.path, NOBODY, NOBODY)
    assert not list(running_clusters(str(root)))
    os.chown(root, NOBODY, NOBODY)
    with pytest.raises(OptionsError) as refused:
        list(running_clusters(str(root)))
    (line,) = refused.value.problems
    assert f"it belongs to {THEM}; set EGG_RUNTIME_DIR to a directory of yours" in line
    assert one_line(line) == line
    runtime.release()


def test_only_linux_tells_the_peer() -> None:
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
    assert peer is None or (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
