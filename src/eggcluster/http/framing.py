"""A response's head as bytes, and how its body is framed (RFC 9112, 6 and 9). Pure; used in app workers."""

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple

from eggcluster.http.fields import LONGEST_NUMBER, WHITESPACE, split_list
from eggcluster.http.head import Header
from eggcluster.http.raw_head import is_token

# What is special about a head that an application has set. Bits, because a head may have several.
DATE = 1  # it has a Date
SERVER = 2  # it has a Server
CLOSE = 4  # it asks for the connection's end
UPGRADE = 8  # it names protocols to upgrade to
_LENGTH, _CONNECTION, _ENCODING, _DROPPED = 16, 32, 64, 128  # never in the result

# How a receiver finds the end of a body. Plain numbers: up to Python 3.11 an Enum's member costs much more to look up.
NO_BODY, LENGTH, CHUNKED, UNTIL_CLOSE = range(4)

# An application must not set fields that are about the connection alone (RFC 9110, 7.6.1; PEP 3333, "Other HTTP
# Features"): they are dropped, but for the wish to close. Names are added as they are seen, up to _MAX_NAMES.
_KINDS: dict[bytes, int] = {
    b"date": DATE,
    b"server": SERVER,
    b"upgrade": UPGRADE,
    b"content-length": _LENGTH,
    b"connection": _CONNECTION,
    b"transfer-encoding": _ENCODING,
    b"keep-alive": _DROPPED,
    b"proxy-connection": _DROPPED,
    b"te": _DROPPED,
    b"trailer": _DROPPED,
}
_MAX_NAMES = 1024  # an application has some dozen; one that makes up names must not fill the memory

_RENDERED: dict[tuple[Any, ...], tuple[bytes, int | None, int]] = {}  # by the status and the fields
_MOST_RENDERED = 256
_LONGEST_RENDERED = 1024  # bytes

_LINES = {int(status): f"HTTP/1.1 {status:d} {status.phrase}\r\n".encode() for status in HTTPStatus}


class BadResponse(Exception):
    """The application's response cannot be sent as it is: the application's fault. The text says why."""


class Framing(NamedTuple):
    """How a body is sent: `kind` is one of NO_BODY, LENGTH, CHUNKED, UNTIL_CLOSE.

    `length` is the number of bytes that have to be sent with LENGTH, and None otherwise. `line` is what the head needs
    besides the application's own fields. NO_BODY means that what the application sends as a body is dropped.
    """

    kind: int
    length: int | None
    line: bytes


def status_line(status: int) -> bytes:
    """Return the first line of a response, always with our own version (RFC 9110, 6.2)."""
    return _LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def has_no_body(status: int) -> bool:
    """Return whether a response with `status` ends with its head (RFC 9112, 6.3)."""
    return status < 200 or status in (204, 304)


@lru_cache(maxsize=64)
def render_chunk_head(size: int) -> bytes:
    """Return the line before a chunk of `size` bytes (RFC 9112, 7.1); many responses are written in equal pieces."""
    return b"%x\r\n" % size


# -- the head --------------------------------------------------------------------------------------------------


def render_head(status: int, headers: Iterable[Header]) -> tuple[bytes, int | None, int]:
    """Return the status line and the application's fields, its Content-Length, and the bits of what is special.

    Left out are fields about the connection, and the empty line at the end. BadResponse for a head that cannot be sent:
    a status or fields of other types, a name that is not a token, a line break or a NUL in a value (RFC 9110, 5.5), two
    different lengths, a transfer coding other than chunked.

    The heads of an application repeat themselves: those of the latest are kept (0.4 us instead of 1.2 us).
    """
    if not isinstance(headers, list):
        headers = list(headers)
    key = (status, *headers)
    try:
        rendered = _RENDERED.get(key)
    except TypeError:  # a header that is a list is no key
        return _render_head(status, headers)
    if rendered is None:
        rendered = _render_head(status, headers)
        if len(_RENDERED) >= _MOST_RENDERED:
            _RENDERED.clear()
        if len(rendered[0]) <= _LONGEST_RENDERED:
            _RENDERED[key] = rendered
    return rendered


def _render_head(status: int, headers: Iterable[Header]) -> tuple[bytes, int | None, int]:
    special, length, lines = 0, None, 1
    try:
        parts = [_LINES.get(status) or status_line(status)]
        for name, value in headers:
            kind = _KINDS.get(name)
            if kind is None:
                kind = _learn(name)
            if kind == _LENGTH:
                if length is not None or status == 204 or not value.isdigit() or len(value) > LONGEST_NUMBER:
                    length = _other_length(value, length, status)
                    continue
                length = int(value)
            elif kind:
                special |= kind if kind <= SERVER else _special_of(kind, value, status)
                if kind > UPGRADE or (kind == UPGRADE and status not in (101, 426)):
                    continue
            parts += (name, b": ", value, b"\r\n")
            lines += 1
        head = b"".join(parts)
    except (TypeError, ValueError, AttributeError) as error:
        text = "the status has to be a number, and each header a pair of bytes, its name and its value"
        raise BadResponse(f"{text}: {error}") from None
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise BadResponse("the value of a header contains a line break or a NUL")
    return head, length, special


def _learn(name: bytes) -> int:
    """Return the kind of a field whose name is seen for the first time, and remember it."""
    kind = _KINDS.get(name.lower(), 0)
    if not is_token(name):
        raise BadResponse(f"the name of a header is not a token: {name!r}")
    if len(_KINDS) < _MAX_NAMES:
        _KINDS[bytes(name)] = kind
    return kind


def _other_length(value: bytes, before: int | None, status: int) -> int | None:
    """Return what a Content-Length means whose line is left out: a repeated one, or one that is not allowed."""
    if status == 204:  # RFC 9110, 8.6: it MUST NOT have one
        return None
    if not value.isdigit() or len(value) > LONGEST_NUMBER:
        raise BadResponse(f"the Content-Length is not a number: {value!r}")
    if int(value) != before:
        raise BadResponse(f"there are two Content-Lengths: {before} and {int(value)}")
    return before


def _special_of(kind: int, value: bytes, status: int) -> int:
    """Return the bits of a field about the connection."""
    if kind == _CONNECTION:
        return CLOSE if b"close" in split_list([value]) else 0
    if kind == _ENCODING and value.strip(WHITESPACE).lower() != b"chunked":
        raise BadResponse(f"the server applies no transfer coding but chunked, and that by itself: {value!r}")
    return UPGRADE if kind == UPGRADE and status == 426 else 0  # RFC 9110, 15.5.22: 426 MUST have one


def render_interim(status: int, headers: Iterable[Header]) -> bytes:
    """Return a whole informational response, as 103 (RFC 9110, 15.2). BadResponse as for `render_head`."""
    if not 100 <= status < 200 or status == 101:
        raise BadResponse(f"{status} is not the status of an informational response")
    head, length, _ = render_head(status, headers)
    if length is not None:
        raise BadResponse("an informational response has no Content-Length (RFC 9110, 8.6)")
    return head + b"\r\n"


def render_trailers(headers: Iterable[Header]) -> bytes:
    """Return the lines of trailers (RFC 9112, 7.1.2). BadResponse as for `render_head`."""
    head, _, _ = render_head(200, headers)
    return head[len(_LINES[200]) :]


def connection_line(version: str, special: int, *, keep_alive: bool) -> bytes:
    """Return the Connection field of a response to a request of `version`; empty where it says nothing new.

    A connection lives on by default in HTTP/1.1 and ends by default in HTTP/1.0 (RFC 9112, 9.3).
    """
    if special & UPGRADE:
        return b"connection: upgrade\r\n" if keep_alive else b"connection: upgrade, close\r\n"
    if not keep_alive:
        return b"connection: close\r\n"
    return b"connection: keep-alive\r\n" if version == "1.0" else b""


# -- the body --------------------------------------------------------------------------------------------------


def choose_framing(method: bytes, version: str, status: int, length: int | None, size: int | None) -> Framing:
    """Return how the body of the response to a request of `method` and `version` is sent (RFC 9112, 6.3).

    `length` is the application's Content-Length. `size` is the number of bytes of the whole body, and None while it is
    not known. BadResponse if the two differ, or if the status is not one of a final response. After UNTIL_CLOSE the
    connection has to be closed.
    """
    if not 200 <= status <= 999:
        raise BadResponse(f"{status} is not the status of a final response: that is from 200 to 999")
    if status in (204, 304):
        return _NOTHING
    if method == b"HEAD":
        return _as_for_get(length, size)
    if status == 205:
        return _reset(length)
    if length is not None:
        if size is not None and size != length:
            raise BadResponse(f"the body has {size} bytes, its Content-Length says {length}")
        return Framing(LENGTH, length, b"")
    if size is not None:
        return Framing(LENGTH, size, b"content-length: %d\r\n" % size)
    return _IN_CHUNKS if version == "1.1" else _TO_THE_END


_NOTHING = Framing(NO_BODY, None, b"")
_IN_CHUNKS = Framing(CHUNKED, None, b"transfer-encoding: chunked\r\n")
_TO_THE_END = Framing(UNTIL_CLOSE, None, b"")  # RFC 9112, 6.1: HTTP/1.0 clients do not know chunks


def _as_for_get(length: int | None, size: int | None) -> Framing:
    """Return the framing for HEAD: the length of the body that GET would get, where it is known (RFC 9110, 9.3.2).

    An empty body says nothing about that length: most applications leave the body away by themselves.
    """
    return _NOTHING if length is not None or not size else Framing(NO_BODY, None, b"content-length: %d\r\n" % size)


def _reset(length: int | None) -> Framing:
    """Return the framing for 205: a body of zero bytes, said aloud (RFC 9110, 15.3.6)."""
    if length:
        raise BadResponse(f"a response with status 205 has no body, its Content-Length says {length}")
    return Framing(NO_BODY, None, b"content-length: 0\r\n" if length is None else b"")
