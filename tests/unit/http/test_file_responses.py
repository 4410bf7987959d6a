"""Files as responses: `wsgi.file_wrapper` and `http.response.pathsend`, sent by the kernel or in pieces."""

import asyncio
import errno
import gzip
import io
import os
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eggcluster.http import sendfile
from eggcluster.http.connection import HttpConnection
from eggcluster.http.framing import BadResponse
from eggcluster.http.http_settings import HttpSettings
from eggcluster.http.wsgi import WsgiExchange
from eggcluster.http.wsgi_files import PIECE, FileWrapper
from eggcluster.options import ResolvedOptions
from eggcluster.worker.engines.http_engine import tls_context
from tests.unit.conftest import Run
from tests.unit.http.wire import RESET, Receive, Scope, Send, Serving, get
from tests.unit.serving import run_server  # noqa: F401
from tests.waiting import until

CONTENT = bytes(range(251)) * 4000  # 1 MB, and no two pieces are alike
Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], None]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(CONTENT)
    return tmp_path / "file"


@pytest.fixture
def by_kernel(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that each call of sendfile(2) has sent."""
    counts: list[int] = []
    sendfile_2 = os.sendfile

    def spy(*arguments: Any) -> int:
        counts.append(sendfile_2(*arguments))
        return counts[-1]

    monkeypatch.setattr(os, "sendfile", spy)
    return counts


class Files:
    """A WSGI application that sends what `open_file` returns; each close of that is counted."""

    def __init__(self, open_file: Callable[[], Any], *headers: tuple[str, str], first: bytes = b"") -> None:
        self._open_file = open_file
        self._headers = list(headers)
        self._first = first
        self.closed: list[str] = []

    def __call__(self, environ: Environ, start_response: StartResponse) -> Any:
        write = start_response("200 OK", self._headers)
        if self._first:
            write(self._first)
        file = self._open_file()
        close = file.close

        def count() -> None:
            self.closed.append(threading.current_thread().name)
            close()

        wrapped = environ["wsgi.file_wrapper"](file, 1000)
        wrapped.close = count
        return wrapped

    async def is_closed(self) -> None:
        await until(lambda: self.closed, "the file is closed")
        assert len(self.closed) == 1
        assert self.closed[0].startswith("wsgi-"), "the application's own thread: it may hold more than the file"


def files(app: Files, settings: HttpSettings | None = None, **more: Any) -> Serving:
    return Serving(app, settings, new_exchange=WsgiExchange, **more)


def at(path: Path, offset: int) -> io.BufferedReader:
    file = path.open("rb")
    file.read(offset)
    return file


# -- which files the kernel may send ---------------------------------------------------------------------------------


def test_a_regular_file_is_known_with_its_offset(path: Path) -> None:
    with at(path, 10) as file:
        assert FileWrapper(file).part() == (file.fileno(), 10, len(CONTENT) - 10)
        assert file.tell() == 10
    with path.open("rb", buffering=0) as raw:
        assert FileWrapper(raw).part() == (raw.fileno(), 0, len(CONTENT))
    with path.open("r+b") as both:
        both.seek(0, io.SEEK_END)
        both.write(b"more")
        both.seek(5)
        assert FileWrapper(both).part() == (both.fileno(), 5, len(CONTENT) - 1)


def test_whatever_else_has_a_descriptor_is_read(path: Path) -> None:
    class Upper(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size).upper()

    reading, writing = os.pipe()
    os.close(writing)
    zipped = path.with_name("zipped")
    zipped.write_bytes(gzip.compress(CONTENT))
    others: list[Any] = [io.BytesIO(), Upper(path), os.fdopen(reading, "rb"), gzip.GzipFile(zipped), path.open()]
    for file in others:
        assert FileWrapper(file).part() is None
        file.close()
    for file in (path.open("rb"), path.open("rb", buffering=0)):
        file.close()
        assert FileWrapper(file).part() is None


# -- WSGI ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 70_000])
@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_file_is_sent_by_the_kernel_from_its_position_on(
    run: Run, path: Path, by_kernel: list[int], offset: int, buffering: int
) -> None:
    def open_file() -> Any:
        file = path.open("rb", buffering=buffering)
        file.read(offset)
        return file

    async def work() -> None:
        app = Files(open_file)
        async with files(app) as site:
            client = await site.connect()
            for _ in range(2):  # the connection is kept
                await client.send(get())
                answer = await client.answer()
                assert answer.body == CONTENT[offset:]
                assert answer.headers["content-length"] == str(len(CONTENT) - offset)
                await app.is_closed()
                app.closed.clear()

    run(work())
    assert sum(by_kernel) == 2 * (len(CONTENT) - offset)


@pytest.mark.parametrize("size", [0, 1, PIECE])
def test_a_short_file_goes_out_with_its_head(run: Run, path: Path, by_kernel: list[int], size: int) -> None:
    async def work() -> None:
        app = Files(lambda: at(path, len(CONTENT) - size))
        async with files(app) as site:
            client = await site.connect()
            await client.send(get())
            answer = await client.answer()
            assert answer.body == CONTENT[len(CONTENT) - size :]
            assert answer.headers["content-length"] == str(size)
            await app.is_closed()

    run(work())
    assert by_kernel == []


def in_memory(path: Path) -> io.BytesIO:
    return io.BytesIO(path.read_bytes())


@pytest.mark.parametrize("open_file", [lambda path: at(path, 0), in_memory], ids=["regular", "in memory"])
@pytest.mark.parametrize("length", [10, 100_000])
def test_a_file_longer_than_its_content_length_is_cut_off_there(
    run: Run, path: Path, open_file: Callable[[Path], Any], length: int
) -> None:
    async def work() -> None:
        app = Files(lambda: open_file(path), ("Content-Length", str(length)))
        async with files(app) as site:
            client = await site.connect()
            for _ in range(2):
                await client.send(get())
                assert (await client.answer()).body == CONTENT[:length]

    run(work())


@pytest.mark.parametrize("open_file", [lambda path: at(path, 0), in_memory], ids=["regular", "in memory"])
def test_a_file_shorter_than_its_content_length_ends_the_connection(
    run: Run, path: Path, open_file: Callable[[Path], Any]
) -> None:
    async def work() -> None:
        app = Files(lambda: open_file(path), ("Content-Length", str(len(CONTENT) + 5)))
        async with files(app) as site:
            client = await site.connect()
            await client.send(get())
            await client.until(b"\r\n\r\n")
            assert await client.rest() == CONTENT
            assert "5 bytes shorter" in str(await site.failed())
            await app.is_closed()

    run(work())


def test_a_file_that_becomes_shorter_while_it_is_sent_ends_the_connection(run: Run, path: Path) -> None:
    os.truncate(path, 200_000_000)  # a hole: no test's disk is that full

    async def work() -> None:
        app = Files(lambda: at(path, 0))
        async with files(app) as site:
            client = await site.connect(receive_buffer=4096)
            await client.send(get())
            await client.until(b"\r\n\r\n")
            os.truncate(path, 0)
            assert not (await client.rest()).endswith(RESET)
            assert isinstance(await site.failed(), BadResponse)
            await app.is_closed()

    run(work())


def test_a_head_request_gets_the_length_and_nothing_more(run: Run, path: Path, by_kernel: list[int]) -> None:
    async def work() -> None:
        app = Files(lambda: at(path, 0))
        async with files(app) as site:
            client = await site.connect()
            for _ in range(2):
                await client.send(get(method="HEAD"))
                answer = await client.answer(to="HEAD")
                assert (answer.status, answer.headers["content-length"]) == (200, str(len(CONTENT)))
                await app.is_closed()
                app.closed.clear()

    run(work())
    assert by_kernel == []


def test_what_was_written_comes_before_the_file(run: Run, path: Path) -> None:
    async def work() -> None:
        app = Files(lambda: at(path, 0), first=b"first ")
        async with files(app) as site:
            client = await site.connect()
            await client.send(get())
            assert (await client.answer()).body == b"first " + CONTENT

    run(work())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_where_the_kernel_cannot_send_the_file_is_read(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def refuse(*arguments: Any) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", refuse)

    async def work() -> None:
        app = Files(lambda: at(path, 3))
        async with files(app) as site:
            client = await site.connect()
            for _ in range(2):
                await client.send(get(method=method))
                answer = await client.answer(to=method)
                assert answer.headers["content-length"] == str(len(CONTENT) - 3)
                assert answer.body == (CONTENT[3:] if method == "GET" else b"")
                await app.is_closed()
                app.closed.clear()

    run(work())


def test_an_error_of_the_disk_is_logged_and_ends_the_connection(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "sendfile", fail)

    async def work() -> None:
        app = Files(lambda: at(path, 0))
        async with files(app) as site:
            client = await site.connect()
            await client.send(get())
            await client.until(b"\r\n\r\n")
            assert await client.rest() == b""
            assert isinstance(await site.failed(), OSError)
            await app.is_closed()

    run(work())


@pytest.mark.parametrize("leaves", ["reset", "reads nothing", "takes too long"])
def test_a_client_that_does_not_take_the_file_keeps_no_thread(run: Run, path: Path, leaves: str) -> None:
    os.truncate(path, 200_000_000)
    settings = HttpSettings(
        write_timeout=0.1 if leaves == "reads nothing" else 60, request_timeout=0.2 if leaves == "takes too long" else 0
    )

    async def work() -> None:
        app = Files(lambda: at(path, 0))
        async with files(app, settings, send_buffer=4096) as site:
            client = await site.connect(receive_buffer=4096)
            await client.send(get())
            await client.until(b"\r\n\r\n")
            if leaves == "reset":
                client.reset()
            await app.is_closed()
            await until(lambda: not site.server.running, "the request is over")
            if leaves != "reset":
                assert (await client.rest()).endswith(RESET)

    run(work())


def test_a_file_goes_through_tls_in_pieces(
    run: Run, path: Path, by_kernel: list[int], tls: tuple[ResolvedOptions, ssl.SSLContext]
) -> None:
    options, context = tls

    async def work() -> None:
        app = Files(lambda: at(path, 0), ("Content-Length", str(len(CONTENT))))
        async with files(app) as site:
            loop = asyncio.get_running_loop()
            listener = await loop.create_server(
                lambda: HttpConnection(site.server, is_tls=True), "127.0.0.1", 0, ssl=tls_context(options)
            )
            reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname(), ssl=context)
            writer.write(get("/", "Connection: close"))
            received = await reader.read()
            assert received.endswith(b"\r\n\r\n" + CONTENT)
            writer.close()
            listener.close()
            await app.is_closed()

    run(work())
    assert by_kernel == []


# -- ASGI ------------------------------------------------------------------------------------------------------------


def sends(path: Path, *headers: tuple[bytes, bytes]) -> Callable[[Scope, Receive, Send], Any]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.pathsend", "path": str(path)})

    return app


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("length", [10, None])
@pytest.mark.parametrize("refuses", [False, True])
def test_a_path_is_sent_up_to_the_content_length(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch, method: str, length: int | None, refuses: bool
) -> None:
    headers = [(b"content-length", b"%d" % length)] if length else []
    if refuses:
        monkeypatch.setattr(sendfile, "_pump", lambda *arguments: asyncio.sleep(0, None))

    async def scenario() -> None:
        async with Serving(sends(path, *headers)) as serving:
            client = await serving.connect()
            for _ in range(2):
                await client.send(get(method=method))
                answer = await client.answer(to=method)
                assert answer.headers["content-length"] == str(length or len(CONTENT))
                assert answer.body == (CONTENT[:length] if method == "GET" else b"")

    run(scenario())


def test_a_path_shorter_than_its_content_length_ends_the_connection(run: Run, path: Path) -> None:
    async def scenario() -> None:
        async with Serving(sends(path, (b"content-length", b"%d" % (len(CONTENT) + 5)))) as serving:
            client = await serving.connect()
            await client.send(get())
            await client.until(b"\r\n\r\n")
            assert await client.rest() == CONTENT
            assert "5 bytes shorter" in str(await serving.failed())

    run(scenario())


@pytest.mark.parametrize("resets", [True, False])
def test_a_client_that_does_not_take_a_path_ends_its_request(run: Run, path: Path, resets: bool) -> None:
    os.truncate(path, 200_000_000)

    async def scenario() -> None:
        settings = HttpSettings(write_timeout=60 if resets else 0.1)
        async with Serving(sends(path), settings, send_buffer=4096) as serving:
            client = await serving.connect(receive_buffer=4096)
            await client.send(get())
            await client.until(b"\r\n\r\n")
            if resets:
                client.reset()
            await until(lambda: not serving.server.running, "the request is over")
            await until(lambda: not serving.server.connections, "the connection is over")
            if not resets:
                assert (await client.rest()).endswith(RESET)

    run(scenario())
