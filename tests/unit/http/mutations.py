"""Requests that are right but for a few bytes: by a random generator, and as strategies of hypothesis."""

import os
import random

from hypothesis import strategies as st

EXAMPLES = 30_000 if os.environ.get("EGG_LONG") else 600  # of each property; the short run has the same ones each time

LINES = [
    b"GET / HTTP/1.1", b"POST /a?b=c HTTP/1.1", b"HEAD /%41 HTTP/1.1", b"OPTIONS * HTTP/1.1", b"CONNECT a:1 HTTP/1.1",
    b"GET http://b/c HTTP/1.1", b"GET / HTTP/1.0", b"POST / HTTP/1.0", b"GET / HTTP/2.0", b"FOO / HTTP/1.1", b"GET /",
    b"GET /a#b HTTP/1.1", b"GET //a HTTP/1.1", b"get / HTTP/1.1", b"GET / HTTP/1.2", b"POST x HTTP/1.1",
    b"GET * HTTP/1.1", b"GET / RTSP/1.0",
]  # fmt: skip
FIELDS = [
    b"Host: a", b"Host: a:80", b"Host: a b", b"Host:", b"host: b", b"Content-Length: 3", b"Content-Length: 0",
    b"content-length: 3", b"Content-Length: 3, 3", b"Content-Length: +3", b"Content-Length: 99999999999999999999",
    b"Content-Length: 1000001", b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked", b"Expect: x",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, identity", b"Expect: 100-continue",
    b"Connection: close", b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c",
    b"Transfer-Encoding: gzip", b"X: y", b"X:", b"X:  y \t", b"X: \xe9", b"X y: z", b"X : y", b"X", b": y", b" folded",
    b"\tfolded", b"X: a\x00b", b"Cookie: a=b; c=d", b"Accept: */*",
]  # fmt: skip
FRAMING_FIELDS = [
    b"Content-Length: 3", b"content-length:0", b"Content-Length: 007 ", b"CONTENT-LENGTH: \t5", b"Connection: close",
    b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked", b"Transfer-Encoding: chunked ",
    b"Connection: keep-alive", b"Connection: Upgrade", b"Proxy-Connection: close", b"Upgrade: h2c",
    b"Upgrade: websocket", b"Expect: 100-continue",
]  # fmt: skip
PIECES = [
    b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\x00", b"\x01", b"\x7f", b"\xe9", b",", b"#", b"*", b"0", b"-", b"\x0b",
    b"Host: a\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"chunked", b"HTTP/1.1", b";", b"/",
    b"@", b"[", b"RTSP",
]  # fmt: skip


def make_request(rolls: random.Random, choice: list[bytes] = FIELDS) -> bytes:
    """Return a request that is right in most of its parts, with some of the fields of `choice`."""
    fields = rolls.sample(choice, rolls.randrange(4))
    if rolls.random() < 0.8:
        fields.insert(rolls.randrange(len(fields) + 1), b"Host: a")
    line = rolls.choice(LINES if rolls.random() < 0.4 else LINES[:3])
    before = rolls.choice((b"\r\n", b"\n", b"\r")) if rolls.random() < 0.03 else b""
    return before + b"\r\n".join([line, *fields, b"", b""])


def damage(data: bytes, rolls: random.Random) -> bytes:
    """Return `data` with a few bytes cut out, put in or doubled."""
    for _ in range(rolls.randrange(4)):
        begin = rolls.randrange(len(data) + 1)
        end = min(len(data), begin + rolls.randrange(4))
        middle = rolls.choice((rolls.choice(PIECES), data[begin:end] * 2, b""))
        data = data[:begin] + middle + data[end:]
    return data


# -- strategies ------------------------------------------------------------------------------------------------

TOKEN = b"!#$%&'*+-.^_`|~09azAZ"
TEXT = bytes(range(0x20, 0x7F)) + b"\t\x80\xe9\xff"
VERSIONS = [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"RTSP/1.0"]
TARGETS = [b"/", b"*", b"/a?b=c", b"a:80", b"http://a/b", b"HTTPS://[::1]:1?x", b"//", b"/%zz", b"ftp://a", b"", b"/#"]
LINE_ENDS = [b"\r\n"] * 60 + [b"\n", b"\r", b"\r\r\n", b" \r\n", b"\r\n ", b""]
SIZES = [
    b"%x", b"%X", b"000%x", b"%x ", b" %x", b"0x%x", b"+%x", b"%x\t", b"1%x", b"f" * 15 + b"%x", b"f" * 16 + b"%x",
]  # fmt: skip
EXTENSIONS = [b""] * 6 + [
    b";",
    b";a",
    b";a=b",
    b';a="b;c"',
    b"; a",
    b" ;a",
    b";a = b",
    b";a;b",
    b';a="',
    b";\xe9",
    b";a\x01",
]
TRAILERS = [
    b"X: y",
    b"x:y",
    b"X:",
    b"X : y",
    b" folded",
    b"X: \x00",
    b"Host: a",
    b"Content-Length: 1",
    b": y",
    b"X",
    b"X: \xe9",
]


def bytes_of(alphabet: bytes, least: int, most: int) -> "st.SearchStrategy[bytes]":
    return st.lists(st.sampled_from(alphabet), min_size=least, max_size=most).map(bytes)


Edits = list[tuple[int, int, bytes | None]]


def edited(data: bytes, edits: Edits) -> bytes:
    """Return `data` with bytes removed and put in at these places; None doubles what would be removed."""
    for place, count, piece in edits:
        begin = place % (len(data) + 1)
        end = begin + count
        data = data[:begin] + (data[begin:end] * 2 if piece is None else piece) + data[end:]
    return data


_edit = st.tuples(st.integers(0, 2000), st.integers(0, 3), st.sampled_from(PIECES) | st.binary(max_size=2) | st.none())
EDITS: "st.SearchStrategy[Edits]" = st.just([]) | st.lists(_edit, max_size=3)
_names = st.sampled_from([b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"X"])
_values = st.sampled_from([b"a", b"3", b"chunked", b"close", b"x", b""]) | bytes_of(TEXT, 0, 6)
_field_lines = (
    st.sampled_from(FRAMING_FIELDS)
    | st.sampled_from(FIELDS)
    | st.builds(
        lambda name, space, value: name + b":" + space + value,
        _names | bytes_of(TOKEN, 1, 3),
        st.sampled_from([b"", b" ", b"\t ", b"  "]),
        _values,
    )
)
_methods = st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"QUERY", b"CONNECT"])
_request_lines = (
    st.sampled_from(LINES[:3])
    | st.sampled_from(LINES)
    | st.builds(
        lambda method, target, version: b"%b %b %b" % (method, target, version),
        st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"QUERY", b"CONNECT"]) | bytes_of(TOKEN, 1, 4),
        st.sampled_from(TARGETS) | bytes_of(TEXT, 0, 4).map(lambda text: b"/" + text),
        st.sampled_from(VERSIONS),
    )
)


def _joined(line: bytes, fields: list[bytes], ends: list[bytes], edits: Edits) -> bytes:
    lines = [line, b"Host: a", *fields]
    return edited(b"".join(map(b"".join, zip(lines, ends, strict=False))) + b"\r\n", edits)


heads = st.builds(
    _joined,
    _request_lines,
    st.lists(_field_lines, max_size=4),
    st.lists(st.sampled_from(LINE_ENDS), min_size=6, max_size=6),
    EDITS,
)

_chunks = st.builds(
    lambda size, extension, data: size % len(data) + extension + b"\r\n" + data + b"\r\n",
    st.sampled_from(SIZES[:3] * 4 + SIZES),
    st.sampled_from(EXTENSIONS),
    st.binary(min_size=1, max_size=20),
)
_chunked_ends = st.builds(
    lambda size, extension, trailers: (
        size + extension + b"\r\n" + b"".join(each + b"\r\n" for each in trailers) + b"\r\n"
    ),
    st.sampled_from([b"0", b"0", b"000", b"0" * 30, b"0x0"]),
    st.sampled_from(EXTENSIONS),
    st.lists(st.sampled_from(TRAILERS), max_size=2),
)
chunked_bodies = st.builds(
    lambda chunks, end, edits: edited(b"".join(chunks) + end, edits),
    st.lists(_chunks, max_size=3),
    _chunked_ends,
    EDITS,
)
