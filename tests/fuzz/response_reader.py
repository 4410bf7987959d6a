"""Reads the responses that a connection has written, for the fuzz of the wire."""

import re
from collections.abc import Iterator

from tests.fuzz.wire_decisions import Response

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")


def responses_in(data: bytes) -> Iterator[Response]:
    """Yield the final responses; what follows a 101 is not HTTP."""
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, head
        assert head.startswith(b"HTTP/1.1 ")
        status, body = int(head[9:12]), b""
        if status == 101:
            yield status, b""
            return
        if b"x-method: HEAD" in head.replace(b"X-Method", b"x-method") or status < 200:
            pass
        elif found := _LENGTH.search(head + b"\r\n"):
            body, data = data[: int(found[1])], data[int(found[1]) :]
        elif b"transfer-encoding: chunked" in head:
            body, data = _chunks(data)
        else:
            body, data = data, b""
        if status >= 200:
            yield status, body


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        body, ended, data = body + data[:size], data[size : size + 2], data[size + 2 :]
        assert ended == b"\r\n"
        if not size:
            return body, data
