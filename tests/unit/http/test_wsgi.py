"""WSGI applications (PEP 3333) over a loopback port: environ, bodies, responses, and clients that leave."""

import asyncio
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast
from wsgiref.validate import validator

import pytest

from eggcluster.http.connection import HttpConnection
from eggcluster.http.http_settings import HttpSettings
from eggcluster.http.wsgi import WsgiExchange
from eggcluster.http.wsgi_pool import WsgiPool
from tests.unit.conftest import Run
from tests.unit.http.wire import Serving
from tests.waiting import DEADLINE, until

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], None]]
GET = b"GET %b HTTP/1.1\r\nHost: shop\r\n\r\n"
TEXT = [("Content-Type", "text/plain")]


def serving(app: Callable[..., Any], **settings: Any) -> Serving:
    return Serving(app, HttpSettings(**settings), new_exchange=WsgiExchange)


def echo(environ: Environ, start_response: StartResponse) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


def test_the_environ_has_what_the_request_says(run: Run) -> None:
    seen: list[Environ] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.append(environ)
        start_response("204 No Content", [])
        return []

    async def work() -> None:
        async with serving(app, root_path="/shop") as site:
            client = await site.connect()
            await client.send(
                b"GET /caf%C3%A9?a=1&b HTTP/1.1\r\nHost: shop\r\nX-Two: 1\r\nx-two: 2\r\nX_Three: 3\r\n"
                b"Cookie: a=1\r\nCookie: b=2\r\nContent-Type: text/x\r\nContent-Length: 0\r\n\r\n"
            )
            assert (await client.answer()).status == 204

    run(work())
    (environ,) = seen
    wanted = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/shop",
        "PATH_INFO": "/caf\xc3\xa9",
        "QUERY_STRING": "a=1&b",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "shop",
        "HTTP_X_TWO": "1,2",
        "HTTP_COOKIE": "a=1; b=2",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "0",
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.run_once": False,
    }
    assert {key: environ[key] for key in wanted} == wanted
    assert "HTTP_X_THREE" not in environ, "it would be the name of X-Three, too"


def test_a_unix_socket_has_a_name_and_a_port_in_the_environ(run: Run, tmp_path: Path) -> None:
    seen: list[Environ] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.append(environ)
        start_response("204 No Content", [])
        return []

    async def work() -> None:
        path = str(tmp_path / "web.sock")
        async with serving(app) as site:
            loop = asyncio.get_running_loop()
            listener = await loop.create_unix_server(lambda: HttpConnection(site.server, is_tls=False), path)
            async with listener:
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 204 ")
                writer.close()
            assert (seen[0]["SERVER_NAME"], seen[0]["SERVER_PORT"]) == (path, "80")

    run(work())


def test_the_validator_of_wsgi_finds_nothing(run: Run) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(1000)
        start_response("200 OK", TEXT)
        return [body[:3], body[3:]]

    async def work() -> None:
        async with serving(cast(Any, validator(cast(Any, app)))) as site:
            client = await site.connect()
            for _ in range(2):
                await client.send(b"POST /?q HTTP/1.1\r\nHost: shop\r\nContent-Length: 6\r\n\r\nabc", b"def")
                assert (await client.answer()).body == b"abcdef"

    run(work())


@pytest.mark.parametrize(
    ("read", "found"),
    [
        (lambda file: [file.read()], [b"one\ntwo\nthree"]),
        (lambda file: [file.read(2), file.read(100), file.read(1)], [b"on", b"e\ntwo\nthree", b""]),
        (lambda file: [file.readline(), file.readline(2), file.readline()], [b"one\n", b"tw", b"o\n"]),
        (lambda file: [*file], [b"one\n", b"two\n", b"three"]),
        (lambda file: file.readlines(), [b"one\n", b"two\n", b"three"]),
        (lambda file: file.readlines(4), [b"one\n"]),
    ],
    ids=["read", "sizes", "readline", "iteration", "readlines", "hint"],
)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_body_is_read_while_it_comes_in(
    run: Run, read: Callable[[Any], Any], found: list[bytes], chunked: bool
) -> None:
    seen: list[bytes] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.extend(read(environ["wsgi.input"]))
        start_response("200 OK", TEXT)
        return [b"done"]

    async def work() -> None:
        async with serving(app) as site:
            client = await site.connect()
            if chunked:
                head, pieces = b"Transfer-Encoding: chunked", (b"5\r\none\nt\r\n", b"8\r\nwo\nthree\r\n", b"0\r\n\r\n")
            else:
                head, pieces = b"Content-Length: 13", (b"one\nt", b"wo\nthree", b"")
            await client.send(b"POST / HTTP/1.1\r\nHost: shop\r\n" + head + b"\r\n\r\n", *[p for p in pieces if p])
            assert (await client.answer()).body == b"done"

    run(work())
    assert seen == found


def test_a_client_that_waits_for_100_is_invited_by_the_first_read(run: Run) -> None:
    async def work() -> None:
        async with serving(echo) as site:
            client = await site.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            assert await client.until(b"HTTP/1.1 100 Continue\r\n\r\n")
            await client.send(b"abc")
            assert (await client.answer()).body == b"abc"

    run(work())


def test_write_generators_and_close(run: Run) -> None:
    closed = threading.Event()

    class Pieces:
        def __iter__(self) -> Iterator[bytes]:
            yield b""
            yield b"second "
            yield b"third"

        def close(self) -> None:
            closed.set()

    def app(environ: Environ, start_response: StartResponse) -> Pieces:
        start_response("200 OK", TEXT)(b"first ")
        return Pieces()

    async def work() -> None:
        async with serving(app) as site:
            client = await site.connect()
            await client.send(GET % b"/")
            answer = await client.answer()
            assert (answer.body, answer.headers["transfer-encoding"]) == (b"first second third", "chunked")
            await until(closed.is_set, "the iterable is closed")

    run(work())


def test_a_file_is_sent_whole(run: Run) -> None:
    content = bytes(range(256)) * 2000

    def app(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [("Content-Length", str(len(content)))])
        return environ["wsgi.file_wrapper"](io.BytesIO(content))

    async def work() -> None:
        async with serving(app) as site:
            client = await site.connect()
            await client.send(GET % b"/")
            assert (await client.answer()).body == content

    run(work())


def test_an_error_before_the_first_bytes_is_500_and_one_after_them_breaks_off(run: Run) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        if environ["PATH_INFO"] == "/late":
            yield b"piece"
        raise RuntimeError("broken")

    async def work() -> None:
        async with serving(app) as site:
            client = await site.connect()
            await client.send(GET % b"/early")
            assert (await client.answer()).status == 500
            assert str(await site.failed()) == "broken"
            client = await site.connect()
            await client.send(GET % b"/late")
            rest = await client.rest()
            assert b"piece" in rest
            assert not rest.endswith(b"0\r\n\r\n")
            assert str(await site.failed()) == "broken"

    run(work())


@pytest.mark.parametrize("body", [["text"], ["text", "more"], "text", [5], [5, 6], [None], None])
def test_a_body_that_is_no_bytes_is_an_error(run: Run, body: Any) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Any:
        write = start_response("200 OK", TEXT)
        if environ["PATH_INFO"] == "/write":
            write(body)
        return body

    async def work() -> None:
        async with serving(app) as site:
            for path in (b"/", b"/write"):
                client = await site.connect()
                await client.send(GET % path)
                assert (await client.answer()).status == 500
                assert isinstance(await site.failed(), TypeError)

    run(work())


def test_what_the_loop_fails_to_carry_out_does_not_keep_the_rest(run: Run) -> None:
    both_handed_over = threading.Event()

    async def work() -> None:
        reported: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        pool, carried_out = WsgiPool(1, loop), asyncio.Event()

        def fail() -> None:
            assert both_handed_over.wait(DEADLINE)
            raise LookupError

        def hand_over() -> None:
            pool.hand_over(fail)
            pool.hand_over(carried_out.set)
            both_handed_over.set()

        thread = threading.Thread(target=hand_over)
        thread.start()
        await asyncio.wait_for(carried_out.wait(), DEADLINE)
        thread.join()
        assert isinstance(reported.pop()["exception"], LookupError)

    run(work())


def test_start_response_may_be_called_again_with_an_error_until_bytes_are_sent(run: Run) -> None:
    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", TEXT)
        try:
            raise KeyError("x")
        except KeyError as error:
            start_response("404 Not Found", TEXT, (type(error), error, error.__traceback__))
        return [b"gone"]

    async def work() -> None:
        async with serving(app) as site:
            client = await site.connect()
            await client.send(GET % b"/")
            assert (await client.answer())[0] == 404

    run(work())


def test_a_client_that_leaves_in_the_middle_of_its_body_ends_the_reading_with_an_error(run: Run) -> None:
    raised: list[BaseException] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            raised.append(error)
        start_response("200 OK", TEXT)
        return [b"late"]

    async def work() -> None:
        async with serving(app) as site:
            client = await site.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 6\r\n\r\nabc")
            await until(lambda: bool(site.server.running), "the request is served")
            client.reset()
            await until(lambda: raised, "the reading has ended")

    run(work())
    assert isinstance(raised[0], ConnectionResetError)


def test_a_stream_whose_client_has_left_ends_without_an_error(run: Run) -> None:
    ended = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        try:
            while True:
                yield b"x" * 1000
        finally:
            ended.set()

    async def work() -> None:
        async with serving(app) as site:
            client = await site.connect()
            await client.send(GET % b"/")
            await client.until(b"xxx")
            client.reset()
            await until(ended.is_set, "the stream has ended")

    run(work())


def test_requests_wait_in_order_while_all_threads_are_busy(run: Run) -> None:
    go, began = threading.Event(), []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        began.append(environ["PATH_INFO"])
        go.wait(10)
        start_response("200 OK", TEXT)
        return [environ["PATH_INFO"].encode()]

    async def work() -> None:
        async with serving(app, threads=2) as site:
            clients = [await site.connect() for _ in range(5)]
            for number, client in enumerate(clients):
                await client.send(GET % b"/%d" % number)
                await until(lambda n=number: len(site.server.running) == n + 1, "it is taken")  # type: ignore[misc]
            await until(lambda: len(began) == 2, "both threads are busy")
            go.set()
            assert [(await client.answer()).body for client in clients] == [b"/%d" % n for n in range(5)]
        assert sorted(began[:2]) == ["/0", "/1"]
        assert sorted(began[2:]) == ["/2", "/3", "/4"]

    run(work())


def test_a_client_that_does_not_read_holds_its_own_thread_alone(run: Run) -> None:
    handed: list[int] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        if environ["PATH_INFO"] == "/short":
            yield b"short"
            return
        for number in range(1000):
            yield b"x" * 100_000
            handed.append(number)

    async def work() -> None:
        async with serving(app, threads=2) as site:
            slow, quick = await site.connect(4096), await site.connect()
            await slow.send(GET % b"/long")
            await until(lambda: handed, "the stream has begun")
            for _ in range(20):
                await quick.send(GET % b"/short")
                assert (await quick.answer()).body == b"short"
            assert len(handed) < 200, "100 MB would be in memory"
            slow.reset()

    run(work())
