"""WebSockets: the library that knows their protocol is loaded at the first request for one, wherever it is hidden."""

import sys
import threading
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from eggcluster.http import websocket as websocket_module
from eggcluster.http import websocket_library
from tests.unit.http.websocket_site import (
    DEADLINE,
    DEFLATE,
    TEXT,
    Run,
    Site,
    close,
    frame,
    run_websockets,  # noqa: F401
    upgrade,
)
from tests.waiting import until

OWN = "raise AssertionError('it was imported')"


@pytest.fixture
def not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before the first upgrade."""
    monkeypatch.setattr(websocket_module, "_handshake", None)
    for name in list(sys.modules):
        if (
            name.split(".")[0] in ("websockets", websocket_library.ALIAS)
            or name == "eggcluster.http.websocket_handshake"
        ):
            monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("not_imported")
@pytest.mark.parametrize("kind", ["a file", "a folder", "in use", "made by hand"])
def test_a_module_of_the_application_has_the_librarys_name(
    run: Run, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It stays what the application imports, and is not imported for our sake."""
    own = types.ModuleType("websockets")
    if kind == "a folder":
        (tmp_path / "websockets").mkdir()
        (tmp_path / "websockets" / "__init__.py").write_text(OWN)
    else:
        (tmp_path / "websockets.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    if kind == "in use":
        own.__spec__ = find_spec("websockets")
    if kind in ("in use", "made by hand"):
        monkeypatch.setitem(sys.modules, "websockets", own)

    async def work() -> None:
        async with Site() as site, site.raw(upgrade(DEFLATE) + frame(TEXT, b"hello")) as client:
            assert await client.read_frame() == (TEXT, b"hello")
            client.write(close(1000))
            assert await client.read_close() == (1000, "")
            await site.wait_end(1000)

    run(work())
    assert sys.modules.get("websockets", own) is own


@pytest.mark.usefixtures("not_imported")
def test_a_library_that_cannot_be_imported_is_500_and_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "websockets.server", types.ModuleType("websockets.server"))  # a wrong version

    async def work() -> None:
        async with Site() as site:
            for _ in range(2):
                async with site.raw(accepted=False) as client:
                    assert (await client.read_rest()).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
            await site.wait_idle()
            assert site.scopes == []

    run(work())
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all(line.startswith("/: no WebSocket, because websockets cannot be imported: ") for line in lines)
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.usefixtures("not_imported")
def test_the_first_upgrade_imports_websockets_itself(run: Run) -> None:
    async def work() -> None:
        async with Site() as site, site.raw(upgrade() + frame(TEXT, b"hello")) as client:
            assert await client.read_frame() == (TEXT, b"hello")
            assert "websockets.server" in sys.modules

    run(work())


class SlowImport:
    """An import that takes as long as the test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self.began = threading.Event()
        monkeypatch.setattr(websocket_module, "_handshake", None)
        monkeypatch.setattr(websocket_module, "load_handshake", self._load)

    def _load(self) -> Any:
        self.began.set()
        assert self.go_on.wait(DEADLINE)
        from eggcluster.http.websocket_handshake import Handshake

        return Handshake


@pytest.mark.parametrize("meanwhile", ["waits", "leaves", "is cut"])
def test_the_loop_goes_on_while_a_thread_imports(run: Run, monkeypatch: pytest.MonkeyPatch, meanwhile: str) -> None:
    slow = SlowImport(monkeypatch)

    async def work() -> None:
        async with Site() as site, site.raw(upgrade() + frame(TEXT, b"hello"), accepted=False) as client:
            await until(slow.began.is_set, "the import", DEADLINE)
            assert (await site.wait_connection()).activity == "request"
            if meanwhile == "leaves":
                client.writer.transport.abort()
                await until(lambda: not site.server.connections, "the client's end", DEADLINE)
            elif meanwhile == "is cut":
                site.connection.cut()
                assert (await client.read_head()).startswith(b"HTTP/1.1 503 ")
            slow.go_on.set()
            if meanwhile == "waits":
                assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
                assert await client.read_frame() == (TEXT, b"hello")
            client.writer.close()
            await site.wait_idle()
            assert len(site.scopes) == (meanwhile == "waits")

    run(work())
