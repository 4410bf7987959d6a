"""Reads a request's head in three ways: with httptools and our rules, with our rules for raw bytes, and with h11."""

from typing import Any

import h11
import httptools

from eggcluster.http.head import Header, Limits, RequestHead
from eggcluster.http.rules import MALFORMED, Rejection, check_head, check_raw_head

LIMITS = Limits(max_header_bytes=2000, max_headers=20, max_target_bytes=1000, max_body_bytes=10**6)


class Reader:
    """A parser's callbacks up to the first head, as the engine has them."""

    def __init__(self, limits: Limits) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.limits = limits
        self.target = b""
        self.headers: list[Header] = []
        self.verdict: RequestHead | Rejection | None = None
        self.lets_live = False
        self.body = b""
        self.is_complete = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        parser = self.parser
        if self.verdict is None:
            self.lets_live = parser.should_keep_alive()
            self.verdict = check_head(
                parser.get_method(), self.target, parser.get_http_version(), self.headers, self.limits
            )

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_complete = True


def read(data: bytes, limits: Limits = LIMITS) -> Reader:
    """Feed `data` to a parser; the reader's verdict is MALFORMED for what the parser refuses within the head."""
    reader = Reader(limits)
    try:
        reader.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        if isinstance(reader.verdict, RequestHead) and data.find(b"\r\n\r\n") + 4 == len(data):
            reader.verdict = MALFORMED  # llhttp judges a Transfer-Encoding after the callback
        reader.verdict = reader.verdict or MALFORMED
    return reader


def verdict(data: bytes, limits: Limits = LIMITS) -> RequestHead | Rejection | None:
    """Return what the engine makes of the head at the beginning of `data`; None while it is incomplete."""
    return read(data, limits).verdict


def explained(data: bytes, limits: Limits = LIMITS) -> Rejection | None:
    """Return the answer that the engine gives to `data`: the rule's where one is found."""
    found = verdict(data, limits)
    if found == MALFORMED:
        return check_raw_head(data, limits) or MALFORMED
    return found if isinstance(found, Rejection) else None


def read_by_h11(data: bytes) -> Any:
    """Return h11's Request, or its exception; None while the head is incomplete."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=10**6)
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        return error
    return event if isinstance(event, h11.Request) else None
