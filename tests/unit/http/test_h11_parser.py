"""The same bytes, cut anywhere, give the same events with h11 as with httptools."""

from collections.abc import Callable, Iterable
from typing import Any

import httptools
import pytest

from eggcluster.http import h11_parser
from eggcluster.http.h11_parser import BadRequest, CallbackFailed, H11Parser, SwitchProtocols

Event = tuple[Any, ...]

GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

# What both read to the end.
STREAMS = {
    "get": GET,
    "pipelined": GET + b"HEAD /2 HTTP/1.1\r\nHost: y\r\n\r\n" + GET,
    "names as sent": b"GET / HTTP/1.1\r\nHOST: x\r\nX-b: 1\r\nx-B:2\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "values": b"GET / HTTP/1.1\r\nHost: x\r\nA: \t b c\r\nB:\r\nC: \t\r\nD: \xff\x80\r\nE: :;,=\"\r\n\r\n",
    "spaces after a value": b"GET / HTTP/1.1\r\nHost: x\r\nA: b \t\r\n\r\n",
    "lone line ends before": b"\r" + GET + b"\n" + GET + b"\r\r\n" + GET,
    "more spaces": b"GET  /a   HTTP/1.1\r\nHost: x\r\n\r\n" + GET,
    "empty lines before": b"\r\n\r\n" + GET + b"\r\n" + GET,
    "absolute target": b"GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "1.0": b"GET / HTTP/1.0\r\n\r\n",
    "1.0, line ends after": b"GET / HTTP/1.0\r\n\r\n\r\n\r\n",
    "1.0, kept": b"GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
    "close, line ends after": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n\r\n",
    "length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + GET,
    "length 0": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + GET,
    "length, spaces": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \t5 \r\n\r\nhello" + GET,
    "length, a body like a request": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(GET) + GET + GET,
    "chunked": CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n" + GET,
    "chunked, empty": CHUNKED + b"0\r\n\r\n" + GET,
    "body of a switch": b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello" + GET,
    "chunked, in capitals": CHUNKED.replace(b"chunked", b"CHUNKED") + b"B\r\nhello world\r\n000\r\n\r\n",
    "chunk extensions": CHUNKED + b"5;a=b\r\nhello\r\n0;c=\"d;e\"\r\n\r\n" + GET,
    "more chunk extensions": CHUNKED + b"1;a;;b=;=c;d=\"\";e=f\"g\"\r\nx\r\n0;h=\"\t\xe9\\\"\"\r\n\r\n" + GET,
    "chunks like framing": CHUNKED + b"7\r\n0\r\n\r\n\r\n\r\n4\r\n\r\n0\r\r\n0\r\n\r\n" + GET,
    "trailers": CHUNKED + b"1\r\nx\r\n0\r\nA: b\r\nC-d:e\r\n\r\n" + GET,
    "two chunked": (CHUNKED + b"1\r\nx\r\n0\r\nA: b\r\n\r\n") * 2,
    "upgrade without Connection": b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n" + GET,
    "empty upgrade": b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: \r\nConnection: Upgrade\r\n\r\n" + GET,
}  # fmt: skip

# After the head, what is not HTTP: the events are those of a request without a body.
UPGRADES = {
    "upgrade": (b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n", b"\x81\x00rest"),
    "nothing after": (b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n", b""),
    "one of several options": (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, upgrade\r\nUpgrade: a, b\r\n\r\n", b"x",
    ),
    "after another": (GET + b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n", GET),
    "with a length": (b"POST / HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 5\r\n\r\n", b"hello" + GET),
    "chunked": (b"POST / HTTP/1.1\r\n" + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"),
    "connect": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", b"rest"),
}  # fmt: skip

# What both refuse, after these many whole requests.
REFUSED = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 0),
    "after a request": (GET + b"{}", 1),
    "bare LF": (b"GET / HTTP/1.1\nHost: x\n\n", 0),
    "bare LF in a header": (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 0),
    "bare CR in a value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 0),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 0),
    "control character in a value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x01c\r\n\r\n", 0),
    "folded": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 0),
    "space before the first header": (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 0),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 0),
    "no name": (b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", 0),
    "no colon": (b"GET / HTTP/1.1\r\nHost: x\r\nabc\r\n\r\n", 0),
    "target not in ASCII": (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 0),
    "no version": (b"GET / \r\nHost: x\r\n\r\n", 0),
    "another protocol": (b"GET / HTTPS/1.1\r\nHost: x\r\n\r\n", 0),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 0),
    "the same length twice": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 0),
    "a list of lengths": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello", 0),
    "a signed length": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello", 0),
    "no length": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\nhello", 0),
    "length and chunked": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n" + CHUNKED[26:] + b"0\r\n\r\n", 0),
    "another coding": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nx", 0),
    "no chunk size": (CHUNKED + b"\r\nx\r\n0\r\n\r\n", 0),
    "a chunk size that is none": (CHUNKED + b"-1\r\nx\r\n0\r\n\r\n", 0),
    "0x": (CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n", 0),
    "bare LF after a chunk size": (CHUNKED + b"1\nx\r\n0\r\n\r\n", 0),
    "bare LF after a chunk": (CHUNKED + b"1\r\nx\n0\r\n\r\n", 0),
    "a chunk longer than its size": (CHUNKED + b"1\r\nxy\r\n0\r\n\r\n", 0),
    "bare LF after the last chunk": (CHUNKED + b"1\r\nx\r\n0\r\n\n", 0),
    "bare LF after an extension": (CHUNKED + b"1\r\nx\r\n0;a\n\r\n", 0),
    "a size of 2**64": (CHUNKED + b"10000000000000000\r\nx", 0),
    "a space after a size": (CHUNKED + b"1 \r\nx\r\n0\r\n\r\n", 0),
    "an empty extension": (CHUNKED + b"1;\r\nx\r\n0\r\n\r\n", 0),
    "a space in an extension": (CHUNKED + b"1;a b\r\nx\r\n0\r\n\r\n", 0),
    "an open quote in an extension": (CHUNKED + b"1;a=\"b\r\nx\r\n0\r\n\r\n", 0),
    "a control character in an extension": (CHUNKED + b"1;a=\"\x01\"\r\nx\r\n0\r\n\r\n", 0),
    "bare CR in an extension": (CHUNKED + b"1;a\rb\r\nx\r\n0\r\n\r\n", 0),
    "bare LF after a trailer": (CHUNKED + b"1\r\nx\r\n0\r\nA: b\n\r\n", 0),
    "two bare LFs after a trailer": (CHUNKED + b"1\r\nx\r\n0\r\nA: b\n\n" + GET, 0),
    "a folded trailer": (CHUNKED + b"1\r\nx\r\n0\r\nA: b\r\n c\r\n\r\n", 0),
    "control character in a trailer": (CHUNKED + b"1\r\nx\r\n0\r\nA: \x01\r\n\r\n", 0),
    "a request after the last one": (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET, 1),
    "a request after Proxy-Connection: close": (
        b"GET / HTTP/1.1\r\nHost: x\r\nProxy-Connection: close\r\n\r\n" + GET, 1,
    ),
    "a request after one of 1.0": (b"GET / HTTP/1.0\r\n\r\n" + GET, 1),
}  # fmt: skip


class Recorder:
    """The events as they came: what a parser may give in several pieces is joined."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.parser: Any = None

    def on_url(self, part: bytes) -> None:
        self._add("url", part)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.events.append(("header", name, value.rstrip()))  # h11 strips those of trailers

    def on_headers_complete(self) -> None:
        self.events.append(("headers complete", self.parser.get_method(), self.parser.get_http_version()))

    def on_body(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data
        self._add("body", data)

    def on_message_complete(self) -> None:
        self.events.append(("message complete",))

    def _add(self, kind: str, data: bytes) -> None:
        if self.events and self.events[-1][0] == kind:
            data = self.events.pop()[1] + data
        self.events.append((kind, data))

    @property
    def whole(self) -> list[Event]:
        """The events of the requests that are complete."""
        ends = [index for index, event in enumerate(self.events) if event == ("message complete",)]
        return self.events[: ends[-1] + 1] if ends else []


def read(make: Callable[[Any], Any], pieces: Iterable[bytes]) -> tuple[Recorder, str, int]:
    """Feed the pieces; return the events, how it ended, and, if by a switch, how many bytes were HTTP."""
    recorder = Recorder()
    parser = recorder.parser = make(recorder)
    before = 0
    for piece in pieces:
        try:
            parser.feed_data(piece)
        except (SwitchProtocols, httptools.HttpParserUpgrade) as switch:
            return recorder, "switched", before + switch.args[0]
        except httptools.HttpParserCallbackError:
            raise  # an event's own error, which is a HttpParserError as well
        except (BadRequest, httptools.HttpParserError):
            return recorder, "refused", 0
        before += len(piece)
    return recorder, "read", before


def cuts(data: bytes) -> Iterable[list[bytes]]:
    """Give `data` in one piece, in two, cut at every position, and byte by byte."""
    yield [data]
    yield from ([data[:position], data[position:]] for position in range(1, len(data)))
    yield [data[position : position + 1] for position in range(len(data))]


@pytest.mark.parametrize("name", STREAMS)
def test_the_events_are_those_of_httptools(name: str) -> None:
    expected, end, _ = read(httptools.HttpRequestParser, [STREAMS[name]])
    assert end == "read"
    assert expected.whole == expected.events != []
    for pieces in cuts(STREAMS[name]):
        recorder, end, _ = read(H11Parser, pieces)
        assert (recorder.events, end) == (expected.events, "read"), pieces


@pytest.mark.parametrize("name", UPGRADES)
def test_a_switch_ends_the_call_where_http_ends(name: str) -> None:
    request, rest = UPGRADES[name]
    expected, end, length = read(httptools.HttpRequestParser, [request + rest])
    assert (end, length) == ("switched", len(request))
    for pieces in cuts(request + rest):
        recorder, end, length = read(H11Parser, pieces)
        assert (recorder.events, end, length) == (expected.events, "switched", len(request)), pieces


@pytest.mark.parametrize("name", REFUSED)
def test_what_httptools_refuses_is_refused(name: str) -> None:
    data, whole = REFUSED[name]
    expected, end, _ = read(httptools.HttpRequestParser, [data])
    assert end == "refused"
    assert expected.whole.count(("message complete",)) == whole
    for pieces in cuts(data):
        recorder, end, _ = read(H11Parser, pieces)
        assert (recorder.whole, end) == (expected.whole, "refused"), pieces


@pytest.mark.parametrize(
    ("before", "unit"),
    [
        (b"\r\n", b"A" * 1000),
        (b"GET /", b"a" * 1000),
        (b"GET / HTTP/1.1\r\n", b"A: " + b"b" * 1000 + b"\r\n"),
        (b"GET / HTTP/1.1\r\nA: ", b"b" * 1000),
        (CHUNKED + b"1;", b"a" * 1000),
        (CHUNKED + b"0\r\n", b"A: " + b"b" * 1000 + b"\r\n"),
    ],
    ids=["method", "target", "headers", "value", "chunk extension", "trailers"],
)
def test_what_is_incomplete_is_kept_up_to_a_limit(before: bytes, unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h11_parser, "MAX_INCOMPLETE", 10_000)
    recorder, end, _ = read(H11Parser, [before, *[unit] * 8])
    assert end == "read"
    recorder, end, _ = read(H11Parser, [before, *[unit] * 20])
    assert end == "refused"
    assert ("message complete",) not in recorder.events


def test_a_body_longer_than_the_limit_is_no_incomplete_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h11_parser, "MAX_INCOMPLETE", 10_000)
    chunk = b"186a0\r\n" + bytes(100_000) + b"\r\n"
    recorder, end, _ = read(H11Parser, [CHUNKED + chunk, chunk, b"0\r\n\r\n" + GET])
    assert end == "read"
    assert len(next(event[1] for event in recorder.events if event[0] == "body")) == 200_000
    assert len(recorder.whole) == len(recorder.events)


@pytest.mark.parametrize("event", ["on_url", "on_header", "on_headers_complete", "on_body", "on_message_complete"])
def test_what_an_event_raises_is_the_context_of_the_failure(event: str) -> None:
    recorder = Recorder()
    recorder.parser = parser = H11Parser(recorder)
    error = RuntimeError("the event's")

    def fail(*args: bytes) -> None:
        raise error

    setattr(recorder, event, fail)
    with pytest.raises(CallbackFailed) as failure:
        parser.feed_data(CHUNKED + b"1\r\nx\r\n0\r\n\r\n")
    assert failure.value.__context__ is error


def test_views_are_read_too() -> None:
    recorder, end, _ = read(H11Parser, [memoryview(GET)[:10], memoryview(GET)[10:]])  # type: ignore[list-item]
    assert (len(recorder.whole), end) == (4, "read")
