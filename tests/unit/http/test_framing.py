"""A response's head and the framing of its body: every combination of request, status and application."""

from itertools import product

import h11
import pytest

from eggcluster.http.framing import (
    CHUNKED,
    CLOSE,
    DATE,
    LENGTH,
    NO_BODY,
    SERVER,
    UNTIL_CLOSE,
    UPGRADE,
    BadResponse,
    Framing,
    choose_framing,
    connection_line,
    has_no_body,
    render_chunk_head,
    render_head,
    render_interim,
    status_line,
)
from eggcluster.http.head import Header

OK = b"HTTP/1.1 200 OK\r\n"
TYPE = (b"content-type", b"text/plain")


# -- the head --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, OK), (404, b"HTTP/1.1 404 Not Found\r\n"), (299, b"HTTP/1.1 299 \r\n"), (999, b"HTTP/1.1 999 \r\n")],
)
def test_a_status_line(status: int, expected: bytes) -> None:
    assert status_line(status) == expected


@pytest.mark.parametrize(
    ("headers", "lines", "length", "special"),
    [
        ([], b"", None, 0),
        ([TYPE], b"content-type: text/plain\r\n", None, 0),
        ([(b"X-A", b""), (b"X-A", b"\xe9\t")], b"X-A: \r\nX-A: \xe9\t\r\n", None, 0),
        ([(b"Content-Length", b"5")], b"Content-Length: 5\r\n", 5, 0),
        ([(b"content-length", b"5"), (b"content-length", b"05")], b"content-length: 5\r\n", 5, 0),
        ([(b"Date", b"d"), (b"SERVER", b"s")], b"Date: d\r\nSERVER: s\r\n", None, DATE | SERVER),
        ([(b"Connection", b"x, Close")], b"", None, CLOSE),
        ([(b"connection", b"keep-alive"), (b"Keep-Alive", b"timeout=5")], b"", None, 0),
        ([(b"te", b"x"), (b"trailer", b"x"), (b"proxy-connection", b"close"), (b"upgrade", b"h2c")], b"", None, 0),
        ([(b"Transfer-Encoding", b" Chunked"), (b"content-length", b"5")], b"content-length: 5\r\n", 5, 0),
        (((b"a", b"b"),), b"a: b\r\n", None, 0),
    ],
)
def test_the_fields_of_an_application(headers: list[Header], lines: bytes, length: int | None, special: int) -> None:
    for _ in range(2):  # also with the names remembered
        assert render_head(200, iter(headers)) == (OK + lines, length, special)


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ([(b"a", b"b\r\nc: d")], "line break"),
        ([(b"a", b"b\nc")], "line break"),
        ([(b"a", b"b\rc")], "line break"),
        ([(b"a", b"b\n"), (b"c", b"d\r")], "line break"),
        ([(b"a", b"b\0")], "NUL"),
        ([(b"a\r\nb", b"c")], "token"),
        ([(b"a:", b"c")], "token"),
        ([(b"a b", b"c")], "token"),
        ([(b"", b"c")], "token"),
        ([("a", b"c")], "bytes"),
        ([(b"a", "c")], "bytes"),
        ([(b"content-length", b"-5")], "not a number"),
        ([(b"content-length", b"5, 5")], "not a number"),
        ([(b"content-length", b"")], "not a number"),
        ([(b"content-length", b"1" * 19)], "not a number"),
        ([(b"content-length", b"5"), (b"Content-Length", b"6")], "two Content-Lengths: 5 and 6"),
        ([(b"transfer-encoding", b"gzip, chunked")], "no transfer coding"),
        ([(b"transfer-encoding", b"identity")], "no transfer coding"),
    ],
)
def test_fields_that_cannot_be_sent(headers: list[Header], text: str) -> None:
    for _ in range(2):
        with pytest.raises(BadResponse, match=text):
            render_head(200, headers)


def test_made_up_names_do_not_fill_the_memory() -> None:
    from eggcluster.http import framing

    before = dict(framing._KINDS)
    try:
        for number in range(3000):
            name = b"x-%d" % number
            assert render_head(200, [(name, b"y")])[0] == OK + name + b": y\r\n"
        assert len(framing._KINDS) <= framing._MAX_NAMES
        with pytest.raises(BadResponse):
            render_head(200, [(b"x y", b"z")])
    finally:
        framing._KINDS.clear()
        framing._KINDS.update(before)


def test_a_204_loses_its_length_and_a_304_keeps_it() -> None:
    assert render_head(204, [(b"content-length", b"0")]) == (b"HTTP/1.1 204 No Content\r\n", None, 0)
    assert render_head(304, [(b"content-length", b"7")])[1:] == (7, 0)


def test_a_head_is_rendered_the_same_when_it_comes_again_and_a_bad_one_is_bad_again() -> None:
    headers = [TYPE, (b"x-a", b"1")]
    first = render_head(200, headers)
    assert render_head(200, [(bytes(bytearray(name)), value) for name, value in headers]) == first
    assert render_head(200, [[*each] for each in headers]) == first  # type: ignore[misc]
    assert render_head(404, headers) != first
    headers[1] = (b"x-a", b"2")
    assert render_head(200, headers) == (OK + b"content-type: text/plain\r\nx-a: 2\r\n", None, 0)
    for _ in range(2):
        with pytest.raises(BadResponse, match="line break"):
            render_head(200, [(b"x-a", b"1\r\nx-b: 2")])


def test_no_more_heads_are_kept_than_some_and_no_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[tuple[object, ...], object] = {}
    monkeypatch.setattr("eggcluster.http.framing._RENDERED", kept)
    for number in range(1000):
        render_head(200, [(b"x-a", b"%d" % number)])
        assert len(kept) <= 256
    before = len(kept)
    render_head(200, [(b"x-a", b"a" * 2000)])
    assert len(kept) == before


def test_only_a_426_names_protocols() -> None:
    head, _, special = render_head(426, [(b"Upgrade", b"websocket")])
    assert (head, special) == (b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n", UPGRADE)
    assert connection_line("1.1", special, keep_alive=True) == b"connection: upgrade\r\n"
    assert connection_line("1.1", special, keep_alive=False) == b"connection: upgrade, close\r\n"


@pytest.mark.parametrize(
    ("version", "keep_alive", "expected"),
    [
        ("1.1", True, b""),
        ("1.1", False, b"connection: close\r\n"),
        ("1.0", True, b"connection: keep-alive\r\n"),
        ("1.0", False, b"connection: close\r\n"),
    ],
)
def test_the_connection_field(version: str, keep_alive: bool, expected: bytes) -> None:
    assert connection_line(version, CLOSE, keep_alive=keep_alive) == expected


def test_informational_responses() -> None:
    link = (b"link", b"</a.css>; rel=preload")
    assert render_interim(103, [link]) == b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
    for status in (99, 101, 200):
        with pytest.raises(BadResponse, match="informational"):
            render_interim(status, [link])
    with pytest.raises(BadResponse, match="no Content-Length"):
        render_interim(103, [(b"content-length", b"0")])


# -- the body --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "version", "status", "length", "size", "expected"),
    [
        (b"GET", "1.1", 200, 5, 5, Framing(LENGTH, 5, b"")),
        (b"GET", "1.1", 200, 5, None, Framing(LENGTH, 5, b"")),
        (b"GET", "1.1", 200, None, 5, Framing(LENGTH, 5, b"content-length: 5\r\n")),
        (b"GET", "1.1", 200, None, 0, Framing(LENGTH, 0, b"content-length: 0\r\n")),
        (b"GET", "1.1", 200, None, None, Framing(CHUNKED, None, b"transfer-encoding: chunked\r\n")),
        (b"GET", "1.0", 200, None, 5, Framing(LENGTH, 5, b"content-length: 5\r\n")),
        (b"GET", "1.0", 200, None, None, Framing(UNTIL_CLOSE, None, b"")),
        (b"GET", "1.0", 200, 5, None, Framing(LENGTH, 5, b"")),
        (b"HEAD", "1.1", 200, 5, 0, Framing(NO_BODY, None, b"")),
        (b"HEAD", "1.1", 200, 5, 9, Framing(NO_BODY, None, b"")),
        (b"HEAD", "1.1", 200, None, 5, Framing(NO_BODY, None, b"content-length: 5\r\n")),
        (b"HEAD", "1.1", 200, None, 0, Framing(NO_BODY, None, b"")),
        (b"HEAD", "1.0", 200, None, None, Framing(NO_BODY, None, b"")),
        (b"GET", "1.1", 204, None, 5, Framing(NO_BODY, None, b"")),
        (b"GET", "1.1", 304, 5, 0, Framing(NO_BODY, None, b"")),
        (b"GET", "1.1", 205, None, 3, Framing(NO_BODY, None, b"content-length: 0\r\n")),
        (b"GET", "1.1", 205, 0, 0, Framing(NO_BODY, None, b"")),
        (b"HEAD", "1.1", 205, None, 0, Framing(NO_BODY, None, b"")),
    ],
)
def test_the_framing_of_a_body(
    method: bytes, version: str, status: int, length: int | None, size: int | None, expected: Framing
) -> None:
    assert choose_framing(method, version, status, length, size) == expected


@pytest.mark.parametrize(
    ("method", "status", "length", "size", "text"),
    [
        (b"GET", 200, 5, 4, "the body has 4 bytes, its Content-Length says 5"),
        (b"GET", 200, 5, 6, "the body has 6 bytes, its Content-Length says 5"),
        (b"POST", 205, 5, None, "205 has no body"),
        (b"GET", 101, None, None, "final response"),
        (b"GET", 100, None, None, "final response"),
        (b"GET", 1000, None, None, "final response"),
        (b"GET", 0, None, None, "final response"),
    ],
)
def test_what_cannot_be_framed(method: bytes, status: int, length: int | None, size: int | None, text: str) -> None:
    with pytest.raises(BadResponse, match=text):
        choose_framing(method, "1.1", status, length, size)


def test_has_no_body() -> None:
    assert [status for status in (100, 103, 199, 200, 204, 205, 304, 404) if has_no_body(status)] == [
        100, 103, 199, 204, 304,
    ]  # fmt: skip


def test_chunk_heads() -> None:
    assert [render_chunk_head(size) for size in (1, 255, 65536)] == [b"1\r\n", b"ff\r\n", b"10000\r\n"]


BODY = b"hello world"
COMBINATIONS = list(
    product(
        (b"GET", b"HEAD", b"POST"), ("1.1", "1.0"), (200, 204, 205, 304, 404, 599), (None, len(BODY)), (True, False)
    )
)


@pytest.mark.parametrize(("method", "version", "status", "length", "whole"), COMBINATIONS)
def test_a_client_finds_the_end_of_each_response(
    method: bytes, version: str, status: int, length: int | None, whole: bool
) -> None:
    """h11, as a client, reads the same body that was sent, and nothing after it."""
    if status == 205 and length and method != b"HEAD":
        return  # refused, see above
    headers = [TYPE] if length is None else [TYPE, (b"content-length", b"%d" % length)]
    head, known, special = render_head(status, headers)
    framing = choose_framing(method, version, status, known, len(BODY) if whole else None)
    keep_alive = framing.kind != UNTIL_CLOSE
    wire = head + framing.line + connection_line(version, special, keep_alive=keep_alive) + b"\r\n"
    if framing.kind == CHUNKED:
        wire += render_chunk_head(len(BODY)) + BODY + b"\r\n0\r\n\r\n"
    elif framing.kind != NO_BODY:
        wire += BODY
    received, is_reusable = receive(method, wire)
    assert received == (b"" if framing.kind == NO_BODY else BODY)
    assert is_reusable is keep_alive


def receive(method: bytes, wire: bytes) -> tuple[bytes, bool]:
    """Return the body that an HTTP client finds in `wire`, and whether its connection may be used again."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(wire)
    body = b""
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(b"")
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
    assert client.trailing_data[0] == b""
    return body, client.their_state is h11.DONE
