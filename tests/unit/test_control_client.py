"""The command line's side of the control socket, before a master that stands still or has too much to do."""

import asyncio
import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest

from eggcluster.cli import control_client
from eggcluster.cli.control_client import answer_to, ask
from eggcluster.errors import ControlError
from eggcluster.kernel.unix_socket import bind_unix
from eggcluster.master.control.clients import MAX_WATCHERS
from eggcluster.runtime.runtime_dir import Description, RuntimeDir
from tests.unit.conftest import Run
from tests.unit.test_control_server import controlled
from tests.waiting import until

BOARD = Description(os.getpid(), "board", "/")
SILENT = "runs but does not answer; was it stopped"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands look for the control socket."""
    monkeypatch.setenv("EGG_RUNTIME_DIR", str(tmp_path))
    path = Path(RuntimeDir(BOARD.name).control_socket)
    path.parent.mkdir()
    return path


def test_a_master_that_stands_still_is_not_waited_for_and_its_queue_may_be_full(path: Path) -> None:
    with bind_unix(str(path)) as sock:
        sock.listen(0)  # the kernel takes one connection, nothing accepts it
        for _ in range(3):
            with pytest.raises(ControlError, match=SILENT):
                next(ask(BOARD, "status", 0.05))


def test_a_watcher_beyond_the_limit_is_refused_with_a_reason(run: Run, path: Path) -> None:
    async def work() -> None:
        async with controlled(path) as master:
            others = [await asyncio.open_unix_connection(str(path)) for _ in range(MAX_WATCHERS)]
            for _, writer in others:
                writer.write(b'{"command": "events"}\n')
            await until(lambda: len(master.feed._readers) == MAX_WATCHERS)
            with pytest.raises(ControlError, match=f"{MAX_WATCHERS} clients follow the cluster already"):
                await asyncio.to_thread(answer_to, BOARD, "events")
            assert await asyncio.to_thread(answer_to, BOARD, "status") == {"phase": "serving"}
            for _, writer in others:
                writer.close()

    run(work())


def served(path: Path, answer: bytes, cluster: Description = BOARD) -> object:
    """What a command gets from a server that gives this answer to anything."""

    def serve(sock: socket.socket) -> None:
        client, _ = sock.accept()
        with client, contextlib.suppress(OSError):
            client.recv(1024)
            client.sendall(answer)

    with bind_unix(str(path)) as sock:
        sock.listen()
        server = threading.Thread(target=serve, args=(sock,))
        server.start()
        try:
            return answer_to(cluster, "status")
        finally:
            server.join(10)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b'{"done": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "cannot be read"),
        (b'{"done": ' + b"[" * 40 + b"]" * 40 + b"}\n", "nested more than 32 levels deep"),
        (b"no JSON\n", "cannot be read"),
        (b'{"error": "\xff"}\n', "cannot be read"),
        (b"[]\n", "cannot be read"),
        (b"x" * 3000 + b"\n", "is longer than"),
        (b"x" * 3000, "is longer than"),
        (b'{"error": ["text"]}\n', r"\['text'\]"),
    ],
)
def test_an_answer_of_another_shape_is_one_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, error: str
) -> None:
    if answer.startswith(b"x"):
        monkeypatch.setattr(control_client, "MAX_ANSWER", 1000)
    with pytest.raises(ControlError, match=f"^(the master's answer )?(is )?{error}"):
        served(path, answer)
    path.unlink()


def test_an_answer_is_taken_from_the_master_alone(path: Path) -> None:
    assert served(path, b'{"done": 1}\n') == 1
    path.unlink()
    other = Description(os.getppid(), "board", "/")
    with pytest.raises(ControlError, match=rf"its control socket belongs to process {os.getpid()} of the user"):
        served(path, b'{"done": 1}\n', other)
