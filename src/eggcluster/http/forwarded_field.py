"""The `Forwarded` field of RFC 7239, read from its trustworthy end. Pure; used in the app workers.

Each proxy appends its element, so the field is read from the right, and only that way is it safe: a client may open a
quoted string and leave it open, and from the left, whatever the proxies append would be a part of that string. From the
right, an element ends where its quotes and separators say, whatever stands before it.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

# Together they bound what a hostile field costs to about 1 ms.
MAX_ELEMENTS = 32  # proxies that a request may have passed; elements further to the left are not read
MAX_PARAMETERS = 8  # of one element; RFC 7239 has four
MAX_BYTES = 16 * 1024  # from the right; an element that begins before is not read

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # RFC 9110, 5.6.2
# A value without quotes is a token (RFC 7239, 4); many proxies write `for=192.0.2.1:4711` and `for=[2001:db8::1]`.
_is_bare = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z:\[\]/-]+").fullmatch
_is_quoted = re.compile(rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"').fullmatch  # RFC 9110, 5.6.4

Element = dict[bytes, bytes]  # lower-case parameter name -> value without quotes


class _Pair(NamedTuple):
    name: bytes
    value: bytes
    before: bytes  # the text in front of it


def elements(value: bytes) -> Iterator[Element]:
    """Yield the elements of a `Forwarded` field, the last one first; stop at the first that is malformed.

    Several lines of the field are joined with commas before (RFC 9110, 5.3). Empty elements are skipped.
    """
    rest = value[-MAX_BYTES:]
    for _ in range(MAX_ELEMENTS):
        found = _last_element(rest.rstrip(b" \t,;"))
        if found is None:
            return
        element, rest = found
        if not rest and len(value) > MAX_BYTES:
            return  # it may begin before
        yield element


def _last_element(text: bytes) -> tuple[Element, bytes] | None:
    """Return the last element of `text` and what is before it, which ends with a comma or is empty; None if it is
    malformed, or names a parameter twice."""
    element: Element = {}
    rest = text
    for _ in range(MAX_PARAMETERS):
        pair = _last_pair(rest)
        if pair is None or pair.name in element:
            return None
        element[pair.name] = pair.value
        rest = pair.before.rstrip(b" \t")
        is_more = rest.endswith(b";")
        rest = rest.rstrip(b" \t;")
        if not rest or rest.endswith(b","):
            return element, rest
        if not is_more:
            return None
    return None


def _last_pair(text: bytes) -> _Pair | None:
    """Return the parameter at the end of `text`; None if there is none.

    The string that a last quote ends begins at the nearest `="`: within a string each quote has a backslash before it.
    """
    is_string = text.endswith(b'"')
    equals = text.rfind(b'="', 0, -1) if is_string else text.rfind(b"=")
    before = text[: max(equals, 0)].rstrip(_TOKEN)
    name, value = text[len(before) : equals], text[equals + 1 :]
    if equals < 0 or not name or not (_is_quoted(value) if is_string else _is_bare(value)):
        return None
    return _Pair(name.lower(), _unquote(value) if is_string else value, before)


def _unquote(value: bytes) -> bytes:
    """Return what a quoted string holds. NUL, which none may hold, stands in for an escaped backslash meanwhile: a
    regular expression takes 7 ms for a field of escapes."""
    return value[1:-1].replace(b"\\\\", b"\0").replace(b"\\", b"").replace(b"\0", b"\\")
