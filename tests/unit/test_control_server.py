"""The control socket: one question, some lines of progress, one answer; nothing a client does reaches further."""

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eggcluster.errors import OptionsError
from eggcluster.master.control.control_server import MAX_LINE, ControlServer
from eggcluster.master.control.event_feed import EventFeed
from eggcluster.master.events import CloseRequested, Inbox, ReloadRequested
from tests.unit.conftest import Run
from tests.unit.wires import Wires, until


class ControlledMaster:
    """What the control socket asks of a master."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.feed = EventFeed()
        self.wires = Wires()
        self.switchboard = self.wires.switchboard

    def status(self) -> dict[str, Any]:
        return {"phase": "serving"}


@contextlib.asynccontextmanager
async def controlled(path: Path) -> AsyncIterator[ControlledMaster]:
    master = ControlledMaster()
    server = await ControlServer.open(str(path), master)
    try:
        yield master
    finally:
        server.close()


async def ask(path: Path, line: bytes) -> list[Any]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    with contextlib.suppress(ConnectionError):
        writer.write(line)
        await writer.drain()
        if not line.endswith(b"\n"):
            writer.write_eof()
    answers = []
    with contextlib.suppress(ConnectionError):
        answers = [json.loads(answer) async for answer in reader]
    writer.close()
    return answers


def command(name: str) -> bytes:
    return json.dumps({"command": name}).encode() + b"\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


def test_the_status_is_one_line(run: Run, path: Path) -> None:
    async def work() -> None:
        async with controlled(path):
            assert await ask(path, command("status")) == [{"done": {"phase": "serving"}}]

    run(work())


def test_only_the_owner_can_open_it(run: Run, path: Path) -> None:
    async def work() -> None:
        async with controlled(path):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600

    run(work())
    assert not path.exists()


@pytest.mark.parametrize(("name", "kind"), [("stop", CloseRequested), ("reload", ReloadRequested)])
@pytest.mark.parametrize(("failure", "last"), [(None, {"done": True}), ("no", {"error": "no"})])
def test_a_long_command_tells_its_progress_and_its_end(
    run: Run, path: Path, name: str, kind: type[Any], failure: str | None, last: dict[str, Any]
) -> None:
    async def work() -> None:
        async with controlled(path) as master:
            asking = asyncio.ensure_future(ask(path, command(name)))
            event = await master.inbox.next(None)
            assert isinstance(event, kind)
            event.progress.say("slot 1 of 2")
            event.progress.end(failure)
            assert await asking == [{"progress": "slot 1 of 2"}, last]

    run(work())


@pytest.mark.parametrize(
    "line",
    [b"\n", b"GET / HTTP/1.1\r\n\r\n", b"{}\n", b"[]\n", b'{"command": 1}\n', b"\xff\n", b"", b"x" * (2 * MAX_LINE)],
)
def test_nonsense_is_not_answered_and_does_no_harm(run: Run, path: Path, line: bytes) -> None:
    async def work() -> None:
        async with controlled(path) as master:
            assert await ask(path, line) == []
            assert await master.inbox.next(0) is None
            assert await ask(path, command("status")) == [{"done": {"phase": "serving"}}]

    run(work())


def test_an_unknown_command_is_an_error(run: Run, path: Path) -> None:
    async def work() -> None:
        async with controlled(path):
            assert await ask(path, command("dance")) == [{"error": 'unknown command "dance"'}]

    run(work())


def test_a_client_that_goes_away_does_not_disturb_the_command(run: Run, path: Path) -> None:
    async def work() -> None:
        async with controlled(path) as master:
            _, writer = await asyncio.open_unix_connection(str(path))
            writer.write(command("reload"))
            event = await master.inbox.next(None)
            assert isinstance(event, ReloadRequested)
            assert event.progress is not None
            writer.close()
            for _ in range(100):
                event.progress.say("line")
                await asyncio.sleep(0)
            event.progress.end()
            assert await ask(path, command("status"))

    run(work())


def test_a_watcher_sees_each_message_as_it_passes_and_costs_nothing_afterwards(run: Run, path: Path) -> None:
    async def work() -> None:
        async with controlled(path) as master:
            agent, one = await master.wires.agent(), await master.wires.app(1)
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b'{"command": "messages", "payload": true}\n')
            await until(lambda: not master.wires.link(one).channel.reader.runs)  # type: ignore[union-attr]
            for number in range(3):
                one.messenger.send_to_agent("note", number)
            seen = [json.loads(await reader.readline())["progress"] for _ in range(3)]
            assert [(m["from"], m["to"], m["kind"], m["action"], m["data"]) for m in seen] == [
                ("app#1", "agent", "message", "note", str(number)) for number in range(3)
            ]
            assert agent.got == [0, 1, 2]
            writer.close()
            await until(lambda: master.wires.link(one).channel.reader.runs)  # type: ignore[union-attr]

    run(work())


def test_a_watcher_sees_the_data_only_if_it_asks_for_them(run: Run, path: Path) -> None:
    async def work() -> None:
        async with controlled(path) as master:
            one = await master.wires.app(1)
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(command("messages"))
            await until(lambda: not master.wires.link(one).channel.reader.runs)  # type: ignore[union-attr]
            one.messenger.send_to("app#1", "login", {"password": "secret"})
            line = await reader.readline()
            assert b"login" in line
            assert b"secret" not in line
            writer.close()

    run(work())


def test_a_path_may_be_longer_than_a_socket_address_holds(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()

    async def work() -> None:
        master = ControlledMaster()
        server = await ControlServer.open(str(folder / "control.sock"), master)
        assert (folder / "control.sock").is_socket()
        server.close()
        await until(lambda: not (folder / "control.sock").exists())

    run(work())


def test_a_socket_that_cannot_be_made_is_an_options_error(run: Run, path: Path) -> None:
    path.mkdir()

    async def work() -> None:
        with pytest.raises(OptionsError, match="cannot be used: Address already in use; set EGG_RUNTIME_DIR"):
            await ControlServer.open(str(path), ControlledMaster())

    run(work())


def test_the_socket_of_another_cluster_in_its_place_is_left_alone(run: Run, path: Path) -> None:
    async def work() -> None:
        async with controlled(path):
            os.unlink(path)
            other = await ControlServer.open(str(path), ControlledMaster())
        assert await ask(path, command("status")) == [{"done": {"phase": "serving"}}]
        other.close()

    run(work())
    assert not path.exists()
