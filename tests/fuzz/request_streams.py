"""Streams of requests for the fuzz of the wire: valid ones, whose reading is known, and a tail of anything."""

import random
from typing import NamedTuple

from tests.unit.http.websocket_site import close, frame

Header = tuple[bytes, bytes]

METHODS = (b"GET", b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"M-SEARCH", b"POST", b"POST", b"PUT", b"PATCH", b"QUERY")
PLACES = (b"/echo", b"/echo", b"/slow", b"/pieces", b"/early")  # what recording_apps.py does there
QUERIES = (b"", b"", b"?=", b"?a=b&c", b"/%2F%41", b"//x", b"/;p?q=%00", b'/{}|^`"<>\\?[]', b"/" + b"x" * 300)
HEADERS = (
    b"Accept: */*", b"X-Empty:", b"X-Tabs: \t a\tb \t", b"X-Latin: \xe9\xff\x80", b"Cookie: a=b; c=d", b"cookie:e=f",
    b"X-Twice: 1", b"x-twice: 2", b"under_score: x", b"!#$%&'*+-.^_`|~: token", b"X-Long: " + b"y" * 700,
    b"Connection: keep-alive", b"Connection: x, y", b"Upgrade: h2c", b"Upgrade: h2c\r\nConnection: Upgrade",
    b"TE: trailers", b"X-Colons: a: b: c", b'X-Quoted: "\\"', b"Expect: 100-continue",
)  # fmt: skip
CLOSING = (b"Connection: close", b"connection:  Close", b"Connection: x, close", b"Proxy-Connection: close")
EXTENSIONS = (b"", b"", b"", b";a", b";a=b", b';a="b;c"')
TRAILERS = (b"", b"", b"", b"X-Trailer: t\r\n", b"a:b\r\nc: d\r\n", b"X-Twice: 3\r\n")
WEBSOCKET = (
    b"GET /ws%d HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
GARBAGE = (
    b"\0", b"{}\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b" GET / HTTP/1.1\r\n\r\n",
    b"GET /echo HTTP/1.1\nHost: x\n\n", b"GET /echo HTTP/1.1\r\n\r\n", b"GET /echo HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
    b"FOO /echo HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /echo HTTP/2.0\r\nHost: x\r\n\r\n", b"GET /echo\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nx", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nHost: y\r\n\r\n",
    b"GET /echo HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 9000, b"GET /" + b"x" * 9000,
    b"GET /echo HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * 60 + b"\r\n",
)  # fmt: skip
PIECES = (
    b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b"\x7f", b"\xe9", b",", b"#", b"*", b"0", b"-", b"1", b"f", b";",
    b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"chunked", b"close", b"HTTP/1.0", b"HTTP/1.1", b"/",
    b"0\r\n\r\n", b"5\r\n", b"Connection: close\r\n", b"Connection: Upgrade\r\n", b"Upgrade: x\r\n",
)  # fmt: skip

ALPHABET = b"abcdefghijklmnopqrstuvwxyz\r\n0"


class Sent(NamedTuple):
    """A valid request, as the application has to see it; `headers` with lower-case names."""

    method: bytes
    target: bytes
    headers: tuple[Header, ...]
    body: bytes


class Stream(NamedTuple):
    """Bytes that begin with the valid `requests`. `is_complete`: what follows those, if anything, is never served."""

    data: bytes
    requests: tuple[Sent, ...]
    is_complete: bool
    websocket: tuple[bytes, ...] | None = None  # the messages that an ASGI application receives after the requests


def make_stream(rolls: random.Random) -> Stream:
    """Return a few valid requests; behind them nothing, garbage, a damaged request, one cut off, or a WebSocket."""
    data, requests = b"", []
    for _ in range(rolls.choice((0, 1, 1, 2, 3, 5))):
        raw, sent, closes = make_request(rolls)
        empty_lines = b"\r\n" * rolls.randrange(1, 3) if rolls.random() < 0.1 else b""
        data += empty_lines + raw
        requests.append(sent)
        if closes:
            return Stream(data + rolls.choice((b"", b"\r\n", *GARBAGE[:4], data)), tuple(requests), True)
    match rolls.randrange(6):
        case 0:
            return Stream(data, tuple(requests), True)
        case 1:
            return Stream(data + rolls.choice(GARBAGE), tuple(requests), False)
        case 2:
            raw = make_request(rolls, PLACES[:1])[0]
            return Stream(data + raw[: rolls.randrange(len(raw))], tuple(requests), True)
        case 3:
            return _with_websocket(data, tuple(requests), rolls)
        case _:
            raw = b"".join(make_request(rolls, PLACES[:1])[0] for _ in range(rolls.randrange(1, 3)))
            return Stream(data + damage(raw, rolls), tuple(requests), False)


def _with_websocket(data: bytes, requests: tuple[Sent, ...], rolls: random.Random) -> Stream:
    messages = [_text(rolls.choice((0, 1, 125, 126, 2000)), rolls) for _ in range(rolls.randrange(4))]
    frames = b"".join(frame(2, message) for message in messages) + close(1000)
    return Stream(data + WEBSOCKET % len(requests) + frames, requests, False, tuple(messages))


def make_request(rolls: random.Random, places: tuple[bytes, ...] = PLACES) -> tuple[bytes, Sent, bool]:
    """Return a valid request, what it says, and whether it is the last of its connection."""
    method, place = rolls.choice(METHODS), rolls.choice(places)
    target = place + rolls.choice(QUERIES)
    lines = rolls.sample(HEADERS, rolls.choice((0, 1, 2, 6)))
    lines.insert(rolls.randrange(len(lines) + 1), rolls.choice((b"Host: x", b"host:a.b:80", b"HOST: [::1]", b"Host:")))
    version = b"1.0" if rolls.random() < 0.1 and place != b"/pieces" else b"1.1"  # whose end is the connection's
    closing = [rolls.choice(CLOSING)] if rolls.random() < 0.1 else []
    if place == b"/early":  # a long body, and one of unknown length, ends the connection unless it has come
        lines = [line for line in lines if not line.startswith(b"Expect")]
    framing, wire, body = _body(rolls, is_read=place != b"/early", may_be_chunked=version == b"1.1")
    lines += closing + framing
    headers = _headers(lines)
    written = target
    if rolls.random() < 0.05:
        written = b"http://other" + target
        headers = ((b"host", b"other"), *(header for header in headers if header[0] != b"host"))
    raw = b"\r\n".join([b"%b %b HTTP/%b" % (method, written, version), *lines, b"", wire])
    kept = any(name == b"connection" and b"keep-alive" in value for name, value in headers)
    return raw, Sent(method, target, headers, body), bool(closing) or (version == b"1.0" and not kept)


def _headers(lines: list[bytes]) -> tuple[Header, ...]:
    fields = (line.partition(b":") for part in lines for line in part.split(b"\r\n"))
    return tuple((name.lower(), value.strip(b" \t")) for name, _, value in fields)


def _body(rolls: random.Random, *, is_read: bool, may_be_chunked: bool) -> tuple[list[bytes], bytes, bytes]:
    """Return the lines that announce a body, its bytes on the wire, and the body."""
    size = 150_000 if is_read and rolls.random() < 0.02 else rolls.choice((0, 1, 3, 100, 5000))
    body = _text(size, rolls)
    match rolls.randrange(4):
        case 0:
            return [], b"", b""
        case 1 if is_read and may_be_chunked:
            name = rolls.choice((b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked "))
            return [name], _in_chunks(body, rolls), body
        case _:
            name = rolls.choice((b"Content-Length: %d", b"content-length:%d", b"CONTENT-LENGTH: \t00%d "))
            return [name % len(body)], body, body


def _text(size: int, rolls: random.Random) -> bytes:
    """Return bytes that are easy to read, and in which a displacement shows."""
    start = rolls.randrange(len(ALPHABET))
    return (ALPHABET * (size // len(ALPHABET) + 2))[start : start + size]


def _in_chunks(body: bytes, rolls: random.Random) -> bytes:
    wire, position = b"", 0
    while position < len(body):
        piece = body[position : position + rolls.choice((1, 10, 1000, 70_000))]
        if len(body) > 100 and len(piece) < 1000:
            continue
        position += len(piece)
        size = rolls.choice((b"%x", b"%X", b"00%x")) % len(piece)
        wire += size + rolls.choice(EXTENSIONS) + b"\r\n" + piece + b"\r\n"
    return wire + rolls.choice((b"0", b"000")) + rolls.choice(EXTENSIONS) + b"\r\n" + rolls.choice(TRAILERS) + b"\r\n"


def damage(data: bytes, rolls: random.Random) -> bytes:
    """Return `data` with a few bytes cut out, put in, doubled or changed."""
    for _ in range(rolls.choice((1, 1, 2, 4))):
        end_of_head = data.find(b"\r\n\r\n") + 4
        begin = rolls.randrange((end_of_head if rolls.random() < 0.7 else len(data)) + 1)
        end = min(len(data), begin + rolls.randrange(4))
        middle = rolls.choice(
            (rolls.choice(PIECES), rolls.choice(PIECES), data[begin:end] * 2, b"", rolls.randbytes(1))
        )
        data = data[:begin] + middle + data[end:]
    return data


def cut(data: bytes, rolls: random.Random) -> list[bytes]:
    """Return the same bytes in pieces: as a whole, one by one, or cut anywhere."""
    kind = rolls.randrange(4)
    if kind == 0 or not data:
        return [data] if data else []
    if kind == 1 and len(data) < 1500:
        return [data[index : index + 1] for index in range(len(data))]
    ends = sorted(rolls.randrange(1, len(data) + 1) for _ in range(rolls.choice((1, 2, 5, 20))))
    pieces = (data[begin:end] for begin, end in zip([0, *ends], [*ends, len(data)], strict=True))
    return [piece for piece in pieces if piece]
