"""How responses are framed, and what becomes of an application's mistakes, over a loopback socket."""

import asyncio
from typing import Any

import pytest

from eggcluster.http.http_settings import HttpSettings
from tests.unit.conftest import Run
from tests.unit.http.wire import RESET, Receive, Scope, Send, Serving, get, respond, turns
from tests.unit.serving import run_server  # noqa: F401
from tests.waiting import until

MB = 1024 * 1024


# -- the framing of responses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [b"Content-Length", b"content-length", b""])
def test_a_whole_body_is_sent_with_its_length(run: Run, length: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"hello", headers=[(length, b"5")] if length else [])

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get() + get("/", method="HEAD") + get())
            for method in ("GET", "HEAD", "GET"):
                answer = await client.answer(to=method)
                assert answer.headers["content-length"] == "5"
                assert answer.body == (b"" if method == "HEAD" else b"hello")

    run(scenario())


def test_a_body_in_pieces_is_sent_in_chunks(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"one", b"", b"three", b"")

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get() + get("/", method="HEAD") + get())
            for method in ("GET", "HEAD", "GET"):
                answer = await client.answer(to=method)
                assert answer.body == (b"" if method == "HEAD" else b"onethree")
                assert "content-length" not in answer.headers

    run(scenario())


def test_each_piece_is_sent_when_it_is_given(run: Run) -> None:
    may_go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        for piece in (b"one", b"two"):
            await may_go_on.wait()
            may_go_on.clear()
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await may_go_on.wait()
        await send({"type": "http.response.body"})

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get())
            assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
            for piece in (b"one", b"two"):
                may_go_on.set()
                assert await client.until(b"\r\n") == b"3\r\n"
                assert await client.exactly(5) == piece + b"\r\n"
            may_go_on.set()
            assert await client.until(b"\r\n\r\n") == b"0\r\n\r\n"

    run(scenario())


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_a_body_ends_with_its_head(run: Run, status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"not", b"sent", status=status, headers=[(b"content-length", b"7")])

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get() + get())
            for _ in range(2):
                answer = await client.answer()
                assert answer.status == status
                assert "transfer-encoding" not in answer.headers
                assert ("content-length" in answer.headers) == (status == 304)  # RFC 9110, 8.6

    run(scenario())


def test_a_large_body_keeps_its_length(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, bytes(MB) + b"end")

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get() + get())
            for _ in range(2):
                answer = await client.answer()
                assert answer.headers["content-length"] == str(MB + 3)
                assert answer.body.endswith(b"\0end")

    run(scenario())


@pytest.mark.parametrize("pieces", [(b"longer",), (b"longer", b""), (b"four", b"more"), (b"", b"longer")])
def test_a_body_longer_than_its_content_length_is_an_error(run: Run, pieces: tuple[bytes, ...]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, *pieces, headers=[(b"content-length", b"5")])

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get())
            received = await client.rest()
            assert "Content-Length" in str(await serving.failed())
            if pieces[0] == b"longer":  # nothing had been sent
                assert received.startswith(b"HTTP/1.1 500 ")
                assert received.endswith(b"Internal Server Error")
            else:  # never complete, and never more than the length says
                head, _, body = received.partition(b"\r\n\r\n")
                assert b"content-length: 5" in head
                assert b"four".startswith(body)

    run(scenario())


@pytest.mark.parametrize("pieces", [(b"four",), (b"four", b""), (b"",), (b"", b"four")])
def test_a_body_shorter_than_its_content_length_is_an_error(run: Run, pieces: tuple[bytes, ...]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, *pieces, headers=[(b"content-length", b"5")])

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get() + get("/2"))
            received = await client.rest()
            assert "Content-Length" in str(await serving.failed())
            if len(pieces) == 1:
                assert received.startswith(b"HTTP/1.1 500 ")
            else:  # the client sees that it is not complete, and nothing that could be taken for the rest
                assert received.partition(b"\r\n\r\n")[2] == b"four"

    run(scenario())


def test_a_response_has_its_headers_and_the_server_s(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"X-A", b"1"), (b"x-a", b"2"), (b"Server", b"own"), (b"Transfer-Encoding", b"chunked")]
        await respond(send, b"", headers=headers)

    async def scenario() -> None:
        async with Serving(app, HttpSettings(headers=((b"x-added", b"yes"),))) as serving:
            client = await serving.connect()
            await client.send(get())
            head = await client.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nServer: own\r\n")
            assert b"\r\nx-added: yes\r\n" in head
            assert head.count(b"date: ") == 1
            assert head.lower().count(b"server: ") == 1
            assert b"transfer-encoding" not in head.lower()

    run(scenario())


@pytest.mark.parametrize("header", [(b"x", b"a\r\nb: c"), (b"x", b"a\nb"), (b"x y", b"a"), (b"", b"a"), (b"x", b"\0")])
def test_a_header_that_cannot_be_sent_is_answered_with_500(run: Run, header: tuple[bytes, bytes]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [header]})
        if scope["path"] == "/later":
            await turns()
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body"})

    async def scenario() -> None:
        async with Serving(app) as serving:
            for path in ("/at-once", "/later"):
                client, other = await serving.connect(), await serving.connect()
                await asyncio.gather(client.send(get(path)), other.send(get(path)))
                for each in (client, other):
                    assert (await each.answer()).status == 500
                    assert await each.rest() == b""
                    assert "header" in str(await serving.failed())

    run(scenario())


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200", []), (None, []), ([200], []), (200, {"name": "value"}), (200, [(b"a", b"b", b"c")]), (200, [None]),
        (200, [(b"content-length", 5)]), (200, [(b"connection", None)]),
    ],
)  # fmt: skip
def test_a_head_of_the_wrong_types_is_answered_with_500(run: Run, status: Any, headers: Any) -> None:
    """Also if the application waits after it."""
    gone = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await gone.wait()

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get())
            assert (await client.answer()).status == 500
            assert "has to be a number, and each header a pair" in str(await serving.failed())
            gone.set()

    run(scenario())


# -- the application's mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_the_application_raises_is_answered_with_500(run: Run, method: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/head":
            await send({"type": "http.response.start", "status": 200})  # not sent yet
        raise LookupError("the application's")

    async def scenario() -> None:
        async with Serving(app) as serving:
            for path in ("/", "/head"):
                client = await serving.connect()
                await client.send(get(path, method=method))
                answer = await client.answer(to=method)
                assert (answer.status, answer.closes) == (500, True)
                assert answer.body == (b"" if method == "HEAD" else b"Internal Server Error")
                assert await client.rest() == b""
                assert isinstance(await serving.failed(), LookupError)

    run(scenario())


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"10")]])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_what_it_raises_in_the_middle_breaks_the_response_off(run: Run, headers: Any, version: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await turns()
        raise LookupError("the application's")

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get(version=version))
            received = await client.rest()
            body = received.partition(b"\r\n\r\n")[2]
            if version == "1.0" and not headers:
                assert body.endswith(RESET)  # an end in order would be that of a whole body
            else:
                assert body == (b"begun" if headers else b"5\r\nbegun\r\n")
            assert isinstance(await serving.failed(), LookupError)

    run(scenario())


@pytest.mark.parametrize("sent", [0, 1, 2])
def test_an_application_that_returns_too_early_is_at_fault(run: Run, sent: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[dict[str, Any]] = [{"type": "http.response.start", "status": 200}]
        messages.append({"type": "http.response.body", "body": b"x", "more_body": True})
        for message in messages[:sent]:
            await send(message)

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get())
            received = await client.rest()
            assert received.startswith(b"HTTP/1.1 200 " if sent == 2 else b"HTTP/1.1 500 ")
            assert not received.endswith(b"0\r\n\r\n")
            assert "returned" in str(await serving.failed())

    run(scenario())


@pytest.mark.parametrize("way", ["send", "receive"])
def test_an_application_that_never_waits_does_not_stop_the_others(run: Run, way: str) -> None:
    """To a HEAD request nothing of the body is sent, so no client makes `send` wait."""
    others: list[str] = []
    others_had_their_turn: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            others.append(scope["path"])
        await send({"type": "http.response.start", "status": 200})
        for _ in range(100_000):
            if not others and way == "send":
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            elif not others:
                await receive()
        others_had_their_turn.append(bool(others))
        await send({"type": "http.response.body"})

    async def scenario() -> None:
        async with Serving(app) as serving:
            endless, other = await serving.connect(), await serving.connect()
            await endless.send(get(method="HEAD"))
            if way == "receive":
                await endless.until(b"\r\n\r\n")
                endless.shut_down()
            await other.send(get())
            assert (await other.answer()).status == 200
            await until(lambda: len(others_had_their_turn) == 2, "the endless one has ended")
            assert all(others_had_their_turn)

    run(scenario())


@pytest.mark.parametrize("uses_reset", [False, True])
def test_an_endless_stream_ends_with_its_client(run: Run, uses_reset: bool) -> None:
    sent = 0
    is_lost = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200})
        while not is_lost.is_set() and sent < 200_000:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            sent += 1

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get())
            await client.until(b"x")
            client.reset() if uses_reset else client.close()
            await until(lambda: not serving.server.connections, "the connection is lost")
            is_lost.set()
            await until(lambda: not serving.server.running, "the application has ended")
            assert sent < 200_000
            serving.failures.clear()  # it may have returned before it was told

    run(scenario())


def test_a_task_of_its_own_that_was_cancelled_is_the_applications_error(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            await client.send(get())
            assert (await client.answer()).status == 500
            assert isinstance(await serving.failed(), asyncio.CancelledError)

    run(scenario())


def test_messages_at_the_wrong_moment_are_errors(run: Run) -> None:
    start: dict[str, Any] = {"type": "http.response.start", "status": 200}
    body: dict[str, Any] = {"type": "http.response.body", "body": b"x"}
    errors: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in {"/body": (body, start, body), "/twice": (start, start, body), "/more": (start, body, body)}[
            scope["path"]
        ]:
            try:
                await send(message)
            except RuntimeError as error:
                errors.append(str(error))

    async def scenario() -> None:
        async with Serving(app) as serving:
            client = await serving.connect()
            for path in ("/body", "/twice", "/more"):
                await client.send(get(path))
                assert (await client.answer()).body == b"x"
                await until(lambda: errors, "the message is refused")
                assert "http.response" in errors.pop()

    run(scenario())


def test_each_response_is_logged_once_whatever_became_of_it(run: Run) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 201})
        if scope["path"] == "/raises":
            raise LookupError("before anything is sent")
        await send({"type": "http.response.body", "body": b"body", "more_body": True})
        if scope["path"] == "/breaks-off":
            raise LookupError("in the middle")
        if scope["path"] == "/leaves":
            assert (await receive())["type"] == "http.request"
            assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.body"})

    async def scenario() -> None:
        logged: list[tuple[bytes, int, int]] = []
        async with Serving(app) as serving:
            serving.server.on_response = lambda each: logged.append((each.head.target, each.status, each.bytes_sent))
            for path in ("/whole", "/raises", "/breaks-off", "/leaves"):
                client = await serving.connect()
                await client.send(get(path))
                await client.until(b"body" if path != "/raises" else b"Error")
                client.close()
                if path in ("/raises", "/breaks-off"):
                    await serving.failed()
            await until(lambda: not serving.server.running, "the requests have ended")
        expected = [(b"/whole", 201, 4), (b"/raises", 500, 0), (b"/breaks-off", 201, 4), (b"/leaves", 201, 4)]
        assert logged == expected

    run(scenario())
