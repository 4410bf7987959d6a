"""WebSockets: the application's events, and what is not accepted."""

import asyncio
import logging
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from tests.unit.http.websocket_site import (
    ACCEPT,
    DEADLINE,
    DEFLATE,
    TEXT,
    Event,
    Receive,
    Run,
    Send,
    Site,
    close,
    frame,
    run_websockets,  # noqa: F401
    upgrade,
)
from tests.waiting import until


async def refusal(site: Site, **more: Any) -> Any:
    """Return the response of a server that does not accept."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(site.url, proxy=None, **more)
    return refused.value.response


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(record.exc_info[1]) for record in caplog.records if record.exc_info]


# -- messages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["deflate", None])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 1023, 1024, 0xFFFF, 0x10000, 1_000_000])
def test_text_and_bytes_come_back_whatever_their_size(run: Run, compression: str | None, size: int) -> None:
    async def work() -> None:
        async with Site() as site, connect(site.url, proxy=None, compression=compression) as client:
            for message in ("é" * (size // 2), "x" * size, bytes(range(256)) * (size // 256 + 1)):
                await client.send(message)
                assert await asyncio.wait_for(client.recv(), DEADLINE) == message

    run(work())


def test_a_short_message_is_not_compressed_and_a_long_one_is(run: Run) -> None:
    async def work() -> None:
        async with Site() as site, site.raw(upgrade(DEFLATE)) as client:
            for size, flag in ((1023, 0), (1024, 0x40)):
                client.write(frame(TEXT, b"x" * size))
                opcode, data = await client.read_frame()
                assert opcode == TEXT | flag
                assert (len(data) == size) is not bool(flag)

    run(work())


def test_the_scope_is_that_of_the_specification(run: Run) -> None:
    async def work() -> None:
        async with Site(root_path="/api", headers=((b"x-from", b"us"),)) as site:
            client = await connect(
                site.url + "caf%C3%A9?a=b",
                proxy=None,
                subprotocols=[Subprotocol("v2"), Subprotocol("v1")],
                additional_headers={"X-Token": "t"},
            )
            assert client.response is not None
            assert client.response.headers["x-from"] == "us"
            assert client.response.headers["server"] == "eggcluster"
            assert len(client.response.headers.get_all("date")) == 1
            await client.close()
            (scope,) = site.scopes
        assert scope["type"] == "websocket"
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
        assert (scope["scheme"], scope["http_version"], "method" in scope) == ("ws", "1.1", False)
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/api/café", b"/caf%C3%A9", b"a=b")
        assert scope["subprotocols"] == ["v2", "v1"]
        assert scope["extensions"] == {"websocket.http.response": {}}
        assert (b"x-token", b"t") in scope["headers"]
        assert scope["state"] == {"shared": "state"}
        assert (scope["server"], scope["client"][0]) == (site.address, "127.0.0.1")

    run(work())


def test_subprotocols_of_several_fields_are_joined(run: Run) -> None:
    async def work() -> None:
        async with Site() as site:
            request = upgrade({b"Sec-WebSocket-Protocol": b"a, b,\r\nSec-WebSocket-Protocol: c"})
            async with site.raw(request):
                pass
            assert site.scopes[0]["subprotocols"] == ["a", "b", "c"]

    run(work())


def test_accept_chooses_a_subprotocol_and_sets_headers(run: Run) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        headers = [(b"x-a", b"1"), (b"date", b"today"), (b"content-length", b"5"), (b"upgrade", b"h2c")]
        await send({**ACCEPT, "subprotocol": "v1", "headers": headers})
        await receive()

    async def work() -> None:
        async with (
            Site(app) as site,
            connect(site.url, proxy=None, subprotocols=[Subprotocol("v2"), Subprotocol("v1")]) as client,
        ):
            assert client.subprotocol == "v1"
            assert client.response is not None
            fields = client.response.headers
            assert (fields["x-a"], fields["date"], fields["upgrade"]) == ("1", "today", "websocket")
            assert "content-length" not in fields

    run(work())


@pytest.mark.parametrize("header", [(b"Sec-WebSocket-Protocol", b"v1"), (b"x-a", b"1\r\nx-b: 2")])
def test_accept_with_a_header_that_cannot_be_sent_is_the_applications_error(
    run: Run, header: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send({**ACCEPT, "headers": [header]})

    async def work() -> None:
        async with Site(app) as site:
            assert (await refusal(site)).status_code == 500

    run(work())
    assert len(failures(caplog)) == 1


def test_several_tasks_may_receive_and_each_message_reaches_one(run: Run) -> None:
    got: list[str] = []

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        async def take() -> None:
            while (event := await receive())["type"] == "websocket.receive":
                got.append(event["text"])

        await receive()
        await send(ACCEPT)
        await asyncio.gather(*[take() for _ in range(3)])

    async def work() -> None:
        async with Site(app) as site:
            async with connect(site.url, proxy=None) as client:
                for number in range(20):
                    await client.send(str(number))
                await until(lambda: len(got) == 20, "all messages", DEADLINE)
            await site.wait_idle()
        assert sorted(got, key=int) == [str(number) for number in range(20)]

    run(work())


# -- not accepted ------------------------------------------------------------------------------------------------


def test_close_before_accept_is_403_and_the_application_hears_1006(run: Run) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 4000})
        await receive()

    async def work() -> None:
        async with Site(app) as site:
            response = await refusal(site)
            assert (response.status_code, response.body) == (403, b"Forbidden")
            assert response.headers["connection"] == "close"
            await site.wait_end(1006)
            await site.wait_idle()
            assert site.server.requests == 1

    run(work())


@pytest.mark.parametrize("pieces", [[b"no entry"], [b"no ", b"entry"], [b"no ", b"entry", b""]])
def test_a_denial_response_is_sent_as_it_is(run: Run, pieces: list[bytes]) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        start = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Basic")]}
        await send(start)
        for number, piece in enumerate(pieces, 1):
            event = {"type": "websocket.http.response.body", "body": piece, "more_body": number < len(pieces)}
            await send(event)
            await asyncio.sleep(0.01)
        with pytest.raises(RuntimeError):
            await send(event)

    async def work() -> None:
        async with Site(app) as site, site.raw(accepted=False) as client:
            head, _, body = (await client.read_rest()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
            assert b"www-authenticate: Basic" in head
            assert b"connection: close" in head
            if len(pieces) == 1:
                assert b"content-length: 8" in head
                assert body == b"no entry"
            else:
                assert b"transfer-encoding: chunked" in head
                assert body == b"3\r\nno \r\n5\r\nentry\r\n0\r\n\r\n"
            await site.wait_idle()
            assert site.errors == []

    run(work())


def test_a_denial_response_that_breaks_off_does_not_look_complete(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 401})
        await send({"type": "websocket.http.response.body", "body": b"no", "more_body": True})

    async def work() -> None:
        async with Site(app) as site, site.raw(accepted=False) as client:
            assert (await client.read_rest()).endswith(b"\r\n\r\n2\r\nno\r\n")
            await site.wait_idle()

    run(work())
    assert failures(caplog) == ["the application returned before its response was complete"]


def test_an_application_that_raises_before_accept_is_500_and_its_error_is_logged(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        raise ValueError("broken")

    async def work() -> None:
        async with Site(app) as site:
            assert (await refusal(site)).status_code == 500
            await site.wait_idle()

    run(work())
    assert failures(caplog) == ["broken"]


def test_an_application_that_returns_without_an_answer_is_500(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()

    async def work() -> None:
        async with Site(app) as site:
            assert (await refusal(site)).status_code == 500

    run(work())
    assert failures(caplog) == ["the application returned without accepting the WebSocket"]


@pytest.mark.parametrize(
    "kinds",
    [
        ["websocket.send"],
        ["http.response.start"],
        ["websocket.http.response.body"],
        ["websocket.accept", "websocket.accept"],
        ["websocket.accept", "websocket.http.response.start"],
        ["websocket.http.response.start", "websocket.accept"],
        ["websocket.http.response.start", "websocket.close"],
        ["websocket.accept", "websocket.close", "websocket.send"],
        ["websocket.close", "websocket.accept"],
    ],
)
def test_an_event_out_of_order_is_an_error(run: Run, kinds: list[str], caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        for kind in kinds:
            await send({"type": kind, "status": 400, "text": "hello"})

    async def work() -> None:
        async with Site(app) as site, site.raw(accepted=False) as client:
            await client.read_head()
            client.write(close(1000))
            await site.wait_idle()
            assert [type(error) for error in site.errors] == [RuntimeError]

    run(work())
    assert f"'{kinds[-1]}'" in failures(caplog)[0]


def test_a_client_that_leaves_before_the_answer_is_told_to_the_application_at_once(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        assert (await receive())["code"] == 1006
        await send(ACCEPT)

    async def work() -> None:
        async with Site(app) as site:
            async with site.raw(accepted=False):
                await until(lambda: site.events, "the request", DEADLINE)
            await site.wait_idle()
            assert isinstance(site.errors[0], OSError)

    run(work())
    assert caplog.records == []  # it is no error of the application


# -- the log and the counters ------------------------------------------------------------------------------------


def test_an_accepted_and_a_refused_websocket_are_requests_of_the_access_log(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send(ACCEPT if scope["path"] == "/" else {"type": "websocket.close"})
        await receive()

    async def work() -> None:
        statuses: list[int] = []
        async with Site(app) as site:
            site.server.on_response = lambda exchange: statuses.append(exchange.status)
            async with connect(site.url, proxy=None):
                assert statuses == [101]
            with pytest.raises(InvalidStatus):
                await connect(site.url + "no", proxy=None)
            assert statuses == [101, 403]
            assert site.server.requests == 2

    with caplog.at_level(logging.INFO):
        run(work())
    assert [record for record in caplog.records if record.name.startswith("eggcluster")] == []  # no line for each


def test_a_request_that_asks_for_something_else_is_served_as_ever(run: Run) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["type"].encode()})

    async def work() -> None:
        async with Site(app) as site, site.raw(upgrade({b"Upgrade": b"h2c"}), accepted=False) as client:
            assert (await client.read_head()).startswith(b"HTTP/1.1 200")
            assert await client.reader.readexactly(4) == b"http"

    run(work())
