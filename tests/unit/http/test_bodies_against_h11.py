"""Random and damaged bodies in chunks, read by both parsers and by h11 itself: they agree, but for what is listed."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eggcluster.http.h11_parser import BadRequest, CallbackFailed, H11Parser, SwitchProtocols
from eggcluster.http.rules import Rejection, check_head, check_trailers
from eggcluster.http.trailers import FORBIDDEN_TRAILERS
from tests.unit.http.mutations import EXAMPLES, chunked_bodies, heads
from tests.unit.http.reading import LIMITS

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


class Body(NamedTuple):
    """A body: its data, whether its end has come, whether what follows is HTTP, and its trailers."""

    data: bytes
    is_complete: bool
    trailers: tuple[tuple[bytes, bytes], ...] = ()


class ChunkDecision(NamedTuple):
    """A body that llhttp refuses and h11 takes, or the other way round."""

    name: str
    reason: str
    shows: Callable[[bytes], Any]


DECISIONS = (
    ChunkDecision(
        "line ends",
        "h11 takes LF for the end of a trailer's line, and waits for the rest of one with a CR; a reader that does not"
        " sees another end of the body",
        re.compile(rb"(?<!\r)\n|\r(?!\n)").search,
    ),
    ChunkDecision(
        "extensions",
        "llhttp takes tokens and quoted strings without white space; h11 takes any text and drops it. The white space"
        " of RFC 9112, 7.1.1 is for old recipients' sake, and no client sends it",
        re.compile(rb"[0-9A-Fa-f][ \t]*;|[0-9A-Fa-f][ \t]+\r\n").search,
    ),
    ChunkDecision(
        "huge chunks",
        "llhttp refuses 2**64 bytes and more (RFC 9112, 7.1: overflows must be found), h11 more than 20 digits",
        re.compile(rb"[0-9A-Fa-f]{16}").search,
    ),
    ChunkDecision(
        "trailers",
        "control characters (RFC 9110, 5.5) and folds (RFC 9112, 5.2): llhttp refuses, h11 takes them",
        re.compile(rb"\r\n[^\r\n:]*:[^\r\n]*[\0-\x08\x0b-\x1f\x7f]|\r\n[ \t]").search,
    ),
    ChunkDecision(
        "forbidden trailers",
        "RFC 9110, 6.5.1: fields that frame, route or authenticate come too late; h11 hands them on",
        re.compile(rb"(?i)\r\n(?:%b):" % b"|".join(FORBIDDEN_TRAILERS)).search,
    ),
)


def read_by_h11(data: bytes) -> Body | None:
    """Return what h11 makes of the first request's body; None if it refuses it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=10**6)
    connection.receive_data(data)
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return Body(body, True, tuple((bytes(name), bytes(value)) for name, value in event.headers))
            elif not isinstance(event, h11.Request):
                return Body(body, False)
    except h11.RemoteProtocolError:
        return None


class Events:
    """What a parser tells of requests that keep our rules."""

    def __init__(self) -> None:
        self.body = b""
        self.trailers: list[tuple[bytes, bytes]] = []
        self.requests: list[tuple[Any, ...]] = []
        self._headers: list[tuple[bytes, bytes]] = []
        self._url = b""
        self.parser: Any = None
        self.is_refused = False

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        head = check_head(method, self._url, version, self._headers, LIMITS)
        if isinstance(head, Rejection):
            raise ValueError(head.reason)
        self.requests.append((method, self._url, version, self._headers))
        self._url, self._headers = b"", []

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        if check_trailers(self._headers, LIMITS):
            raise ValueError("forbidden trailers")
        self.requests.append((self.body, self._headers))
        self.body, self._headers = b"", []


def events_of(new_parser: Callable[[Any], Any], refusals: tuple[type[Exception], ...], data: bytes) -> Events:
    """Return what a parser tells of the bytes, up to its refusal."""
    events = Events()
    events.parser = new_parser(events)
    try:
        events.parser.feed_data(data)
    except (httptools.HttpParserUpgrade, SwitchProtocols) as switch:
        events.requests.append(("switch", switch.args[0]))
    except refusals:
        events.is_refused = True
    return events


def by_llhttp(data: bytes) -> Events:
    return events_of(httptools.HttpRequestParser, (httptools.HttpParserError,), data)


def by_our_h11(data: bytes) -> Events:
    return events_of(H11Parser, (BadRequest, CallbackFailed), data)


def body_of(events: Events) -> Body | None:
    if len(events.requests) < 2:
        return None if events.is_refused else Body(events.body, False)
    body, trailers = events.requests[1]
    return Body(body, True, tuple(trailers))


@given(chunked_bodies)
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_body_in_chunks_is_read_as_by_h11_or_by_decision(body: bytes) -> None:
    data = HEAD + body
    ours, theirs = body_of(by_llhttp(data)), read_by_h11(data)
    if ours != theirs and (has_end(ours) or has_end(theirs)):
        assert any(decision.shows(body) for decision in DECISIONS), (body, ours, theirs)
        assert not (has_end(ours) and has_end(theirs)), (body, ours, theirs)  # one refuses; no body has two readings


def has_end(body: Body | None) -> bool:
    """Return whether the body was read to its end: h11 may see only then, or at a line's end, what is wrong."""
    return body is not None and body.is_complete


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("line ends", b"0\r\nX: y\n\r\n"),
        ("extensions", b"1; a\r\nx\r\n0\r\n\r\n"),
        ("huge chunks", b"fffffffffffffffff\r\nx"),
        ("trailers", b"0\r\nX: a\x01b\r\n\r\n"),
        ("forbidden trailers", b"0\r\nContent-Length: 1\r\n\r\n"),
    ],
)
def test_a_decision_about_bodies_is_shown_by_a_body(name: str, body: bytes) -> None:
    (decision,) = [decision for decision in DECISIONS if decision.name == name]
    assert decision.shows(body)
    assert body_of(by_llhttp(HEAD + body)) != read_by_h11(HEAD + body)


# -- the parser over h11, which has to do what llhttp does ---------------------------------------------------------


def is_known(data: bytes) -> bool:
    """Return whether the two parsers differ by decision: h11 does not know RTSP, nor sizes of more than 20 digits."""
    return b"RTSP/" in data or re.search(rb"0{20}", data) is not None


@given(st.one_of(heads, chunked_bodies.map(lambda body: HEAD + body)))
@settings(max_examples=EXAMPLES, deadline=None)
def test_both_parsers_tell_the_same(data: bytes) -> None:
    one, other = by_llhttp(data + NEXT), by_our_h11(data + NEXT)
    if not is_known(data):
        assert (one.is_refused, one.requests) == (other.is_refused, other.requests), data
