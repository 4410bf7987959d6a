"""The access log's lines: a format is compiled once, and a line then costs what its atoms cost. Pure; in app workers.

The formats are gunicorn's, of which each atom means what it means there, with these differences: the path is the one
on the wire, not decoded; the client is the one that a trusted proxy named; `%(b)s` is `-` for an empty body, as the
Common Log Format has it; and `%({X}e)s` reads what the engine gives as `environ`.
"""

import binascii
import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo

from eggcluster.http.ip_addresses import Address
from eggcluster.http.log_text import Timestamps, escaped, escaped_text
from eggcluster.wording import shown

DEFAULT_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
JSON = "json"

Header = tuple[bytes, bytes]


@dataclass(slots=True)
class Record:
    """One request that has been answered.

    `time` is Unix time when the response ended, `duration` is in seconds. `headers` have lower-case names.
    `body_bytes` counts the response's body without its framing. `environ` is the WSGI environ, or what else the
    engine lets a format read.
    """

    time: float
    duration: float
    client: Address | None
    method: bytes
    target: bytes
    version: str
    headers: Sequence[Header]
    status: int
    response_headers: Sequence[Header]
    body_bytes: int
    environ: Mapping[str, object] = field(default_factory=dict)


Line = Callable[[Record], str]
Fields = Mapping[bytes, bytes]  # the request's header fields; of several lines with one name the last counts
Atom = Callable[[Record, Fields], str | int]


def compile_format(
    text: str,
    *,
    process_id: int | str = "-",
    constants: Mapping[str, str | int] | None = None,
    zone: tzinfo | None = None,
) -> Line:
    """Return the function that writes the line of a record, without a line end.

    `text` is a format, or `json` for one JSON object. `process_id` is what `%(p)s` shows. `constants` are further
    members of the JSON object, such as the slot and the worker id. `zone`: see `Timestamps`. ValueError with one line
    if a format has an unknown atom or conversion. Lines may be written in any thread.
    """
    timestamps = Timestamps(zone)
    if text == JSON:
        return _json_line(timestamps, constants or {})
    if not text.strip():
        raise ValueError(f"the access log's format is empty: write {JSON}, or a format such as {DEFAULT_FORMAT}")
    atoms: list[Atom] = []
    fixed = {"l": "-", "p": f"<{process_id}>"}
    template = _token.sub(lambda found: _compile_token(found, atoms, fixed, timestamps), text)
    reads_fields = bool(_reads_fields(text))

    def line(record: Record) -> str:
        fields = dict(record.headers) if reads_fields else {}
        return template % tuple([atom(record, fields) for atom in atoms])

    return line


# -- a format's tokens -----------------------------------------------------------------------------------------

_token = re.compile(r"%(?:%|\(([^()]*)\)(-?[0-9]*(?:\.[0-9]+)?[sd])|)")  # `%%`, an atom, or else a `%` that is wrong
_named = re.compile(r"\{([^{}]+)\}([ioe])").fullmatch
_reads_fields = re.compile(r"%\((?:[ufa]|\{[^()]*\}i)\)").search
_NUMBERS = frozenset("sBTMD")  # the atoms that may be written with `d`, too


def _compile_token(found: re.Match[str], atoms: list[Atom], fixed: Mapping[str, str], timestamps: Timestamps) -> str:
    """Return a token's part of the template, and append the atom that fills it to `atoms`."""
    key, conversion = found[1], found[2]
    if found[0] == "%%":
        return "%%"
    if key is None:
        raise ValueError(f"the access log's format has a % that begins no atom: {shown(found.string[found.start() :])}")
    if conversion.endswith("d") and key not in _NUMBERS:
        raise ValueError(f"the access log's atom %({key})d is not a number: write %({key})s")
    if key in fixed:
        return (f"%{conversion}" % fixed[key]).replace("%", "%%")
    atoms.append(_atom(key, timestamps))
    return f"%{conversion}"


def _atom(key: str, timestamps: Timestamps) -> Atom:
    if key == "t":
        return lambda record, fields: timestamps.clf(record.time)
    named = _named(key)
    if named is not None:
        return _NAMED_ATOMS[named[2]](named[1])
    try:
        return _ATOMS[key]
    except KeyError:
        known = " ".join((*_ATOMS, "t", "l", "p", "{Header}i", "{Header}o", "{VARIABLE}e"))
        raise ValueError(f"the access log has no atom {shown(key)}; it has: {known}") from None


# -- the atoms -------------------------------------------------------------------------------------------------


def _client(record: Record, fields: Fields) -> str:
    return record.client[0] if record.client else "-"


def _user(record: Record, fields: Fields) -> str:
    """Return the user name of HTTP Basic authentication (RFC 7617)."""
    scheme, _, credentials = fields.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"basic":
        return "-"
    try:
        user, colon, _ = b64decode(credentials.strip(), validate=True).partition(b":")
    except binascii.Error:
        return "-"
    return escaped(user) if user and colon else "-"


def _request_line(record: Record, fields: Fields) -> str:
    return f"{escaped(record.method)} {escaped(record.target)} HTTP/{record.version}"


def _request_field(name: str) -> Atom:
    wanted = name.lower().encode()
    return lambda record, fields: escaped(fields.get(wanted) or b"-")


def _response_field(name: str) -> Atom:
    wanted = name.lower().encode()

    def atom(record: Record, fields: Fields) -> str:
        values = [value for name, value in record.response_headers if name.lower() == wanted]
        return escaped((values and values[-1]) or b"-")

    return atom


def _variable(name: str) -> Atom:
    """Read a variable of `environ`; gunicorn's users write its name in lower case."""
    upper = name.upper()

    def atom(record: Record, fields: Fields) -> str:
        value = record.environ.get(name, record.environ.get(upper))
        return "-" if value is None else escaped_text(str(value))

    return atom


_NAMED_ATOMS: dict[str, Callable[[str], Atom]] = {"i": _request_field, "o": _response_field, "e": _variable}
_ATOMS: dict[str, Atom] = {
    "h": _client,
    "u": _user,
    "r": _request_line,
    "m": lambda record, fields: escaped(record.method),
    "U": lambda record, fields: escaped(record.target.partition(b"?")[0]),
    "q": lambda record, fields: escaped(record.target.partition(b"?")[2]),
    "H": lambda record, fields: f"HTTP/{record.version}",
    "s": lambda record, fields: record.status,
    "B": lambda record, fields: record.body_bytes,
    "b": lambda record, fields: record.body_bytes or "-",
    "f": _request_field("referer"),
    "a": _request_field("user-agent"),
    "T": lambda record, fields: int(record.duration),
    "M": lambda record, fields: int(record.duration * 1_000),
    "D": lambda record, fields: int(record.duration * 1_000_000),
    "L": lambda record, fields: f"{record.duration:.6f}",
}


# -- JSON ------------------------------------------------------------------------------------------------------

_encode = json.JSONEncoder().encode  # writes whatever is not ASCII as \uXXXX: no bidi mark, no lone surrogate stays


def _json_text(value: bytes | None) -> str:
    if value is None:
        return "null"
    return _encode(value.decode("utf-8", "backslashreplace")).replace("\x7f", "\\u007f")


def _json_line(timestamps: Timestamps, constants: Mapping[str, str | int]) -> Line:
    """Return the function that writes one JSON object; times are RFC 3339, the duration is in milliseconds."""
    rest = "".join(f",{_encode(name)}:{_encode(value)}" for name, value in constants.items())

    def line(record: Record) -> str:
        path, _, query = record.target.partition(b"?")
        return (
            f'{{"time":"{timestamps.iso(record.time)}","client":{_encode(record.client and record.client[0])}'
            f',"method":{_json_text(record.method)},"path":{_json_text(path)},"query":{_json_text(query)}'
            f',"status":{record.status},"bytes":{record.body_bytes},"duration_ms":{record.duration * 1000:.3f}'
            f',"user_agent":{_json_text(dict(record.headers).get(b"user-agent"))}{rest}}}'
        )

    return line
