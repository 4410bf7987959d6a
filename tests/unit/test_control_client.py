"""The command line's side of the control socket, before a master that stands still or has too much to do."""

import asyncio
import os
from pathlib import Path

import pytest

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
            await until(lambda: len(master.feed._watchers) == MAX_WATCHERS)
            with pytest.raises(ControlError, match=f"{MAX_WATCHERS} clients follow the cluster already"):
                await asyncio.to_thread(answer_to, BOARD, "events")
            assert await asyncio.to_thread(answer_to, BOARD, "status") == {"phase": "serving"}
            for _, writer in others:
                writer.close()

    run(work())
