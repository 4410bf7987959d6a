"""The fields that decide about a request's framing, its host and its connection. Pure; used in app workers."""

import re
from collections.abc import Iterable
from functools import lru_cache

from eggcluster.http.head import Header, Limits

# The methods that llhttp takes for HTTP. RFC 9110, 9.1: 501 for a method that the server does not recognize.
METHODS = frozenset(
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH QUERY "
    b"ACL BIND CHECKOUT COPY LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY PROPFIND PROPPATCH "
    b"PURGE REBIND REPORT SEARCH SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)
RULED = frozenset((
    b"host", b"content-length", b"transfer-encoding", b"connection", b"proxy-connection", b"expect", b"upgrade",
))  # fmt: skip
WHITESPACE = b" \t"
LONGEST_NUMBER = 18  # decimal digits that always fit into 63 bits

_NAME = rb"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+"
_HOST = rb"(?:" + _NAME + rb"|\[[0-9A-Fa-f:.]{2,45}\])"  # the brackets hold an IPv6 address
is_authority = re.compile(_HOST + rb"(?::[0-9]{0,5})?").fullmatch  # RFC 3986, 3.2.2, without user information
_is_tunnel_end = re.compile(_HOST + rb":[0-9]{1,5}").fullmatch  # RFC 9112, 3.2.3: here the port is required
# Visible ASCII without "#": a fragment is no part of a request target (RFC 9112, 3.2). RFC 3986 forbids "<>\^`{|} too;
# browsers send some of them, and no framing depends on them.
is_origin_form = re.compile(rb"/[!\"$-~]*").fullmatch
absolute_form = re.compile(rb"(?i:https?)://([^/?#]*)([/?][!\"$-~]*)?").fullmatch


@lru_cache(maxsize=256)
def is_host(value: bytes) -> bool:
    """Return whether `value` is a valid Host (RFC 9112, 3.2): an authority, or empty where the target has none."""
    return not value or is_authority(value) is not None


def split_list(values: Iterable[bytes]) -> list[bytes]:
    """Return the elements of a comma-separated field (RFC 9110, 5.6.1), in lower case; empty ones stay."""
    return [element.strip(WHITESPACE).lower() for value in values for element in value.split(b",")]


class HeadFields:
    """A head with its ruled fields sorted out: what the rules look at. Nothing of it has been checked.

    `target` and `headers` are rewritten where the target is in absolute form: its authority takes the place of the
    Host field (RFC 9112, 3.2.2).
    """

    def __init__(self, method: bytes, target: bytes, version: str, headers: list[Header], limits: Limits) -> None:
        self.method, self.target, self.version, self.headers, self.limits = method, target, version, headers, limits
        self.size = len(target) + sum(len(name) + len(value) + 4 for name, value in headers)  # 4: colon, space, CRLF
        ruled: dict[bytes, list[bytes]] = {name: [] for name in RULED}
        for name, value in headers:
            if name in ruled:
                ruled[name].append(value.strip(WHITESPACE))
        self.hosts = ruled[b"host"]
        self.lengths = ruled[b"content-length"]
        self.encodings = ruled[b"transfer-encoding"]
        self.codings = split_list(self.encodings)
        self.expectations = [each for each in split_list(ruled[b"expect"]) if each]
        # llhttp ends a connection after `Proxy-Connection: close`, so it has to count here, too.
        self.connection = split_list(ruled[b"connection"] + ruled[b"proxy-connection"])
        self.upgrades = split_list(ruled[b"upgrade"]) if b"upgrade" in split_list(ruled[b"connection"]) else []

    # -- sizes -----------------------------------------------------------------------------------------------

    def has_long_target(self) -> bool:
        return len(self.target) > self.limits.max_target_bytes

    def has_many_fields(self) -> bool:
        return len(self.headers) > self.limits.max_headers

    def is_too_large(self) -> bool:
        return self.size > self.limits.max_header_bytes

    # -- the request line and the host -----------------------------------------------------------------------

    def has_unknown_version(self) -> bool:
        return self.version not in ("1.1", "1.0")

    def has_unknown_method(self) -> bool:
        return self.method not in METHODS

    def is_connect(self) -> bool:
        return self.method == b"CONNECT"

    def has_bad_tunnel_target(self) -> bool:
        return self.is_connect() and not _is_tunnel_end(self.target)

    def has_bad_asterisk(self) -> bool:
        return self.target == b"*" and self.method != b"OPTIONS"

    def has_bad_target(self) -> bool:
        """Whether the target is in none of the forms that are left: origin, absolute, and `*`."""
        target = self.target
        return not (is_origin_form(target) or target == b"*" or absolute_form(target))

    def has_bad_target_host(self) -> bool:
        absolute = absolute_form(self.target)
        return absolute is not None and not is_authority(absolute[1])

    def has_no_host(self) -> bool:
        return not self.hosts and self.version == "1.1"

    def has_several_hosts(self) -> bool:
        return len(self.hosts) > 1

    def has_bad_host(self) -> bool:
        return not all(map(is_host, self.hosts))

    def to_origin_form(self) -> None:
        """Rewrite an absolute target: keep its path and query, and let its authority replace the Host field."""
        absolute = absolute_form(self.target)
        if absolute is None:
            return
        rest = absolute[2] or (b"*" if self.method == b"OPTIONS" else b"/")
        self.target = b"/" + rest if rest.startswith(b"?") else rest
        self.headers = [(b"host", absolute[1]), *(header for header in self.headers if header[0] != b"host")]

    # -- the framing -----------------------------------------------------------------------------------------

    def has_early_encoding(self) -> bool:
        return bool(self.encodings) and self.version == "1.0"

    def has_two_framings(self) -> bool:
        return bool(self.encodings and self.lengths)

    def has_several_lengths(self) -> bool:
        return len(self.lengths) > 1

    def has_bad_length(self) -> bool:
        return not all(value.isdigit() for value in self.lengths)

    def has_huge_length(self) -> bool:
        return len(self._digits()) > LONGEST_NUMBER

    def has_large_body(self) -> bool:
        limit = self.limits.max_body_bytes
        return limit > 0 and (self.content_length or 0) > limit

    @property
    def content_length(self) -> int | None:
        return int(self._digits() or b"0") if self.lengths else None

    def _digits(self) -> bytes:
        return self.lengths[0].lstrip(b"0") if self.lengths else b""

    def has_bad_final_coding(self) -> bool:
        """Whether the body's end cannot be found: `chunked` is not the last coding, or is applied twice."""
        codings = self.codings
        return bool(codings) and (codings[-1] != b"chunked" or b"chunked" in codings[:-1])

    def has_unknown_coding(self) -> bool:
        return len(self.codings) > 1

    # -- the connection --------------------------------------------------------------------------------------

    def has_unknown_expectation(self) -> bool:
        return self.version == "1.1" and any(each != b"100-continue" for each in self.expectations)

    @property
    def keep_alive(self) -> bool:
        """Whether the client lets the connection live on (RFC 9112, 9.3)."""
        if b"close" in self.connection:
            return False
        return self.version == "1.1" or b"keep-alive" in self.connection

    @property
    def has_body(self) -> bool:
        return bool(self.codings) or bool(self.content_length)

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for 100 before it sends a body; HTTP/1.0 clients cannot (RFC 9110, 10.1.1)."""
        return self.version == "1.1" and b"100-continue" in self.expectations and self.has_body

    @property
    def is_websocket(self) -> bool:
        """Whether to switch to WebSocket (RFC 6455, 4.1). Any other upgrade is ignored (RFC 9110, 7.8), and so is one
        with a body: where the body ends and the frames begin would depend on the reader."""
        return self.version == "1.1" and self.method == b"GET" and b"websocket" in self.upgrades and not self.has_body
