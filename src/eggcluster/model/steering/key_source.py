"""Key sources: where a request has the key that says which worker it belongs to. Pure; runs in all processes.

A key is a cookie's value, a header's or a query parameter's. The keys of all sources are one space: the application
may claim a key that it has found in a body, and the client may send it in the query from then on.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, cast
from urllib.parse import unquote_to_bytes

Headers = Iterable[tuple[bytes, bytes]]
Kind = Literal["cookie", "header", "query"]

ADDRESS = "address"  # no source of keys: the client's address chooses the slot before anything is read
OWN_COOKIE = b"egg_slot"
MAX_KEY_BYTES = 4096  # of a longer value the request has no key: a browser's cookie has at most as many

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_QUERY_NAME = re.compile(r"[A-Za-z0-9._~-]{1,256}")  # what stands in a query as it is


class KeySource(NamedTuple):
    """One source. `name` of a header is in lower case. `is_own`: the cookie is the cluster's, and names a worker."""

    kind: Kind
    name: bytes
    is_own: bool = False

    def key_of(self, target: bytes, headers: Headers) -> bytes | None:
        """Return the key of a request; None if it has none. `headers` have names in lower case."""
        if self.kind == "query":
            return _bounded(_in_query(self.name, target))
        if self.kind == "header":
            return _bounded(_in_headers(self.name, headers))
        return _bounded(_in_cookies(self.name, headers))

    def key_in(self, raw: bytes, lowered: bytes) -> bytes | None:
        """Return the same as `key_of` for a head as it came, up to its empty line; `lowered` is it in lower case. A
        head that no parser takes may have any key. Costs a tenth of what a parser takes."""
        if self.kind == "query":
            return _bounded(_in_query(self.name, _target_of(raw))) if self.name in raw else None
        field = self.name if self.kind == "header" else b"cookie"
        values = _values(field, raw, lowered)
        if self.kind == "header":
            return _bounded(values[0]) if values else None
        return _bounded(_in_cookies(self.name, [(b"cookie", value) for value in values])) if values else None

    def is_given_by(self, name: bytes) -> bool:
        """Return whether a response field of this name, in lower case, may give a key to learn."""
        return not self.is_own and {"header": self.name, "cookie": b"set-cookie"}.get(self.kind) == name

    def learned_from(self, headers: Headers) -> bytes | None:
        """Return the key that a response gives its client; None if it gives none. A query is never given."""
        if self.kind == "query":
            return None
        if self.kind == "header":
            return _bounded(next((value for name, value in headers if name.lower() == self.name), None))
        return _bounded(_in_set_cookies(self.name, headers))


def parse_key_source(way: str) -> KeySource | None:
    """Return the source that a value of `--sticky-by` stands for; None if it stands for none."""
    if way == "cookie":
        return KeySource("cookie", OWN_COOKIE, is_own=True)
    kind, colon, name = way.partition(":")
    pattern = {"cookie": _TOKEN, "header": _TOKEN, "query": _QUERY_NAME}.get(kind)
    if pattern is None or not colon or not pattern.fullmatch(name):
        return None
    return KeySource(cast(Kind, kind), (name.lower() if kind == "header" else name).encode())


def key_ways(ways: Sequence[str]) -> list[str]:
    """Return those of the values of `--sticky-by` that are sources of keys, in their order."""
    return [way for way in ways if parse_key_source(way) is not None]


def key_sources(ways: Sequence[str]) -> list[KeySource]:
    """Return the sources of keys among the values of `--sticky-by`, in their order."""
    return [source for way in ways if (source := parse_key_source(way)) is not None]


def _bounded(value: bytes | None) -> bytes | None:
    return value if value and len(value) <= MAX_KEY_BYTES else None


def _target_of(raw: bytes) -> bytes:
    line = raw.lstrip(b"\r\n").partition(b"\r\n")[0].split()  # an empty line may be before it (RFC 9112, 2.2)
    return line[1] if len(line) > 1 else b""


def _values(name: bytes, raw: bytes, lowered: bytes) -> list[bytes]:
    """Return the values of the fields of this name."""
    values, start, field = [], 0, b"\r\n%b:" % name
    while (found := lowered.find(field, start)) >= 0:
        start = raw.find(b"\r\n", found + len(field))
        values.append(raw[found + len(field) : start].strip())
    return values


def _in_headers(name: bytes, headers: Headers) -> bytes | None:
    for field, value in headers:
        if field == name:
            return value
    return None


def _in_query(name: bytes, target: bytes) -> bytes | None:
    """Return the first value of the parameter, decoded as a form's (`+` is a blank)."""
    query = target.partition(b"?")[2]
    if name not in query:
        return None
    for part in query.split(b"&"):
        if part.startswith(name) and part[len(name) : len(name) + 1] == b"=":
            value = part[len(name) + 1 :]
            return unquote_to_bytes(value.replace(b"+", b" ")) if b"%" in value or b"+" in value else value
    return None


def _in_cookies(name: bytes, headers: Headers) -> bytes | None:
    """Return the first cookie of that name (RFC 6265, 5.4: the one with the longest path comes first)."""
    for field, value in headers:
        if field == b"cookie" and name in value:
            for pair in value.split(b";"):
                found, equals, content = pair.partition(b"=")
                if equals and found.strip() == name:
                    return content.strip().strip(b'"')
    return None


def _in_set_cookies(name: bytes, headers: Headers) -> bytes | None:
    """Return the value to which a response sets the cookie; of several the last, which a client keeps."""
    found = None
    for field, value in headers:
        if field.lower() == b"set-cookie":
            pair, _, attributes = value.partition(b";")
            given, equals, content = pair.partition(b"=")
            if equals and given.strip() == name:
                found = None if _deletes(attributes) else content.strip().strip(b'"')
    return found


def _deletes(attributes: bytes) -> bool:
    plain = attributes.replace(b" ", b"").lower()
    return b"max-age=0" in plain.split(b";") or (b"expires=" in plain and b"jan1970" in plain)
