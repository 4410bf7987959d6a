"""The parser over h11, where llhttp cannot be loaded (subinterpreters): the events of `parser.py`. Runs in app workers.

h11 accepts more than llhttp: lines that end with a bare LF, folded fields, control characters in values. A proxy before
this server may then see the end of a request elsewhere (RFC 9112, 11.2). So the lines of a head, and the end of a
chunked body, are matched against the strict grammar as well.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import h11

if TYPE_CHECKING:  # parser.py imports this module while it is itself being imported
    from eggcluster.http.parser import ParserEvents

MAX_INCOMPLETE = 1024 * 1024  # bytes of a head, of a chunk's line, or of trailers; a connection's own limits are lower
CHUNKED_STEP = 4096  # bytes of a chunked body given to h11 at once: what is unread is copied before each of its events

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"  # RFC 9110, 5.5
_REQUEST_LINE = re.compile(rb"(%b) +([\x21-\x7e]+) +(HTTP/[0-9]\.[0-9]\r\n)" % _TOKEN)  # as many spaces as for llhttp
_FIELD = re.compile(rb"(%b):[ \t]*(%b)\r\n" % (_TOKEN, _TEXT))
_FIRST_BYTE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]")
_QUOTED = rb'"(?:[\t\x20!#-\[\]-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_VALUE = rb"=(?:%b)?(?:%b)?" % (_TOKEN, _QUOTED)
_EXTENSIONS = rb"(?:;+(?:%b(?:%b)?|%b))*" % (_TOKEN, _VALUE, _VALUE)  # what llhttp takes for them
# What stands between the data of two chunks, and after the last one, trailers and empty line included.
_CHUNK_HEAD = re.compile(rb"(?:\r\n)?0*[0-9A-Fa-f]{1,16}%b\r\n" % _EXTENSIONS)
_CHUNKED_END = re.compile(rb"(?:\r\n)?0+%b\r\n(?:%b:%b\r\n)*\r\n" % (_EXTENSIONS, _TOKEN, _TEXT))

_FRAMING = (b"content-length", b"transfer-encoding")

Header = tuple[bytes, bytes]


class SwitchProtocols(Exception):
    """The request asks for another protocol. The argument is the number of the call's bytes that belong to HTTP."""


class CallbackFailed(Exception):
    """An event raised; what it raised is the `__context__`."""


class BadRequest(Exception):
    """The bytes are not HTTP, or may be read in more than one way."""


class H11Parser:
    """A `Parser`: calls `events` as httptools does.

    An h11 connection reads one request and then waits for its response, so each request has a new one.
    """

    def __init__(self, events: "ParserEvents") -> None:
        self._events = events
        self._read: Callable[[bytes, int], int] = self._read_line  # what comes next
        self._line = bytearray()  # the beginning of a line
        self._head = bytearray()  # whole lines
        self._headers: list[Header] = []
        self._connection: h11.Connection
        self._method, self._version = b"", ""
        self._is_chunked = False
        self._between = b""  # what has been read of a chunked body since the latest data
        self._is_last = False  # of the requests on this connection

    def get_method(self) -> bytes:
        """Return the method of the latest request."""
        return self._method

    def get_http_version(self) -> str:
        """Return the version of the latest request, as in `1.1`."""
        return self._version

    def feed_data(self, data: bytes | memoryview) -> None:
        """Read `data`; see `Parser`."""
        received, position = bytes(data), 0
        while position < len(received):
            position = self._read(received, position)

    # -- the head: each of these reads from a position on, and returns the position after what it has read ----

    def _read_line(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position) + 1
        if not end:
            self._begin_line(data[position:])
            return len(data)
        line = bytes(self._line) + data[position:end]
        self._line.clear()
        if self._head and line == b"\r\n":
            self._end_head(end)
            return end
        self._add_line(line)
        return end

    def _begin_line(self, part: bytes) -> None:
        self._line += part
        if not self._head:
            self._line = self._line.lstrip(b"\r\n")
            if self._line and not _FIRST_BYTE.match(self._line):
                raise BadRequest("the first byte is not that of a method")
        if len(self._head) + len(self._line) > MAX_INCOMPLETE:
            raise BadRequest("the head is too large")

    def _add_line(self, line: bytes) -> None:
        if not self._head:
            line = self._begin_head(line)
        elif field := _FIELD.fullmatch(line):
            self._headers.append((field[1], field[2]))
        else:
            raise BadRequest("a header is malformed")
        self._head += line
        if len(self._head) > MAX_INCOMPLETE:
            raise BadRequest("the head is too large")

    def _begin_head(self, line: bytes) -> bytes:
        """Tell the target; return the request line with single spaces.

        Nothing is returned for an empty line: it is skipped (RFC 9112, 2.2), also one that is a lone CR, as by llhttp.
        """
        line = line.lstrip(b"\r\n")
        if not line:
            return b""
        words = _REQUEST_LINE.fullmatch(line)
        if not words:
            raise BadRequest("the request line is malformed")
        self._tell(self._events.on_url, words[2])
        return b" ".join(words.groups())

    def _end_head(self, end: int) -> None:
        """Tell the head, and the end of a request that has no body. SwitchProtocols if it asks for another protocol."""
        request, headers = self._parse_head(), self._headers
        self._head, self._headers = bytearray(), []
        self._method, self._version = request.method, request.http_version.decode()
        for name, value in headers:
            self._tell(self._events.on_header, name, value)
        self._tell(self._events.on_headers_complete)
        options = _tokens(headers, b"connection") | _tokens(headers, b"proxy-connection")  # as for llhttp
        if request.method == b"CONNECT" or (b"upgrade" in options and _tokens(headers, b"upgrade")):
            self._tell(self._events.on_message_complete)
            raise SwitchProtocols(end)
        self._is_last = b"close" in options if self._version == "1.1" else b"keep-alive" not in options
        self._is_chunked = bool(_tokens(headers, b"transfer-encoding"))
        self._read = self._read_body
        self._read_events()

    def _parse_head(self) -> h11.Request:
        """Have h11 read the request line and what frames the body; the rules see to the other headers."""
        framing = [(name, value) for name, value in self._headers if name.lower() in _FRAMING]
        if len(framing) > 1 or any(b"," in value for _, value in framing):
            raise BadRequest("the body's end is given more than once")
        line = bytes(self._head).partition(b"\r\n")[0]
        fields = [b"%b: %b" % field for field in framing]
        self._connection = h11.Connection(h11.SERVER, MAX_INCOMPLETE)
        self._connection.receive_data(b"\r\n".join([line, b"host: -", *fields, b"", b""]))
        request = self._next_event()
        if not isinstance(request, h11.Request):
            raise AssertionError(f"BUG: a whole head made h11 return {request!r}")
        return request

    # -- the body ------------------------------------------------------------------------------------------

    def _read_body(self, data: bytes, position: int) -> int:
        end = min(position + CHUNKED_STEP, len(data)) if self._is_chunked else len(data)
        self._connection.receive_data(data[position:end])
        return end - self._read_events()

    def _read_events(self) -> int:
        """Tell what h11 has read; return how many bytes of what it was given come after the request."""
        while True:
            unread = self._connection.trailing_data[0] if self._is_chunked else b""
            event = self._next_event()
            self._between += unread[: len(unread) - self._count_unread(event)]
            if isinstance(event, h11.Data):
                self._tell_data(event)
            elif isinstance(event, h11.EndOfMessage):
                return self._end_message(event)
            else:
                return 0

    def _count_unread(self, event: object) -> int:
        """Return how many bytes are left in h11, or are data."""
        rest = len(self._connection.trailing_data[0]) if self._is_chunked else 0
        return rest + (len(event.data) if isinstance(event, h11.Data) else 0)

    def _tell_data(self, event: h11.Data) -> None:
        if self._between:
            if not _CHUNK_HEAD.fullmatch(self._between):
                raise BadRequest("the line of a chunk's size is malformed")
            self._between = b""
        self._tell(self._events.on_body, bytes(event.data))

    def _end_message(self, event: h11.EndOfMessage) -> int:
        rest = len(self._connection.trailing_data[0])
        if self._is_chunked and not _CHUNKED_END.fullmatch(self._between):
            raise BadRequest("the end of a chunked body is malformed")
        self._between = b""
        for name, value in event.headers.raw_items():
            self._tell(self._events.on_header, name, value)
        self._read = self._refuse_more if self._is_last else self._read_line
        self._tell(self._events.on_message_complete)
        return rest

    def _refuse_more(self, data: bytes, position: int) -> int:
        """The client has said that it sends no further request; line ends may follow."""
        if data[position:].strip(b"\r\n"):
            raise BadRequest("a request follows the last one")
        return len(data)

    # -- both ----------------------------------------------------------------------------------------------

    def _next_event(self) -> object:
        try:
            return self._connection.next_event()
        except h11.RemoteProtocolError as error:
            raise BadRequest(str(error)) from error

    def _tell(self, event: Callable[..., None], *args: bytes) -> None:
        try:
            event(*args)
        except Exception as error:
            raise CallbackFailed(f"{event.__name__} raised") from error


def _tokens(headers: list[Header], field: bytes) -> set[bytes]:
    """Return the members of a list field, in lower case (RFC 9110, 5.6.1)."""
    values = [value.lower() for name, value in headers if name.lower() == field]
    return {member for value in values for part in value.split(b",") if (member := part.strip())}
