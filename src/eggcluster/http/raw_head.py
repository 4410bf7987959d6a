"""A request's head as bytes, for the rules that a parser hides: line ends, spaces, folds. Pure; used in app workers."""

import re

from eggcluster.http.fields import WHITESPACE
from eggcluster.http.head import Header

is_token = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch  # RFC 9110, 5.6.2
_is_visible = re.compile(rb"[!-~]+").fullmatch
_protocol = re.compile(rb"HTTP/([0-9]\.[0-9])").fullmatch
_control = re.compile(rb"[\0-\x08\n-\x1f\x7f]").search  # RFC 9110, 5.5: all but HTAB
_end = re.compile(rb"\n\r?\n").search  # of a head, however its lines end
_LINE_ENDS = b"\r\n"

# A head with which nothing can be wrong that only its bytes show. No part of it can match in two ways, so that the time
# grows with the length alone.
is_well_formed = re.compile(
    rb"[A-Z-]+ [!-~]+ HTTP/1\.[01]\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\0-\x08\n-\x1f\x7f]*\r\n)*\r\n"
).match


class RawHead:
    """The bytes of one head, cut into lines. The bytes may break off anywhere, and may go on after the head.

    Empty lines before the request line are skipped (RFC 9112, 2.2). A last line without its end is not looked at.
    """

    def __init__(self, data: bytes) -> None:
        self.start = data.lstrip(_LINE_ENDS)
        end = _end(self.start)
        self.is_complete = end is not None
        self.text = self.start[: end.end() if end else self.start.rfind(b"\n") + 1]
        lines = [line.removesuffix(b"\r") for line in self.text.split(b"\n")]
        self.request_line, self.lines = lines[0], [line for line in lines[1:] if line]
        self.parts = self.request_line.split(b" ")
        self.has_request_line = bool(self.text)

    def is_tls(self) -> bool:
        return self.start.startswith(b"\x16\x03")  # a handshake record (RFC 8446, 5.1)

    def is_http2(self) -> bool:
        return self.start.startswith(b"PRI * HTTP/2.0")

    # -- the lines -------------------------------------------------------------------------------------------

    def has_leading_space(self) -> bool:
        return self.start[:1] in (b" ", b"\t")

    def has_bare_lf(self) -> bool:
        return self.text.count(b"\n") != self.text.count(b"\r\n")

    def has_bare_cr(self) -> bool:
        return self.text.count(b"\r") > self.text.count(b"\r\n")

    # -- the request line ------------------------------------------------------------------------------------

    def has_bad_method(self) -> bool:
        return self.has_request_line and not is_token(self.parts[0])

    def has_bad_spaces(self) -> bool:
        """Whether the request line is not three words with one space between each."""
        return self.has_request_line and (len(self.parts) != 3 or b"" in self.parts)

    def has_bad_target(self) -> bool:
        return self.has_request_line and not _is_visible(self.parts[1])

    def has_other_protocol(self) -> bool:
        return self.has_request_line and not _protocol(self.parts[-1])

    # -- the field lines -------------------------------------------------------------------------------------

    def has_space_before_fields(self) -> bool:
        return self.lines[:1] != [] and self.lines[0][:1] in (b" ", b"\t")

    def has_fold(self) -> bool:
        return any(line[:1] in (b" ", b"\t") for line in self.lines[1:])

    def has_space_before_colon(self) -> bool:
        return any(name[-1:] in (b" ", b"\t") for name, colon, _ in self._split() if colon)

    def has_bad_name(self) -> bool:
        return any(not is_token(name) or not colon for name, colon, _ in self._split())

    def has_bad_value(self) -> bool:
        return any(_control(value) for _, _, value in self._split())

    def _split(self) -> list[tuple[bytes, bytes, bytes]]:
        return [line.partition(b":") for line in self.lines]

    # -- what a parser would make of it ----------------------------------------------------------------------

    @property
    def version(self) -> str:
        return self.parts[-1][-3:].decode("latin-1")

    @property
    def headers(self) -> list[Header]:
        return [(name.lower(), value.strip(WHITESPACE)) for name, _, value in self._split()]
