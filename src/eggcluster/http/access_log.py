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
from eggcluster.model.access_log_format import JSON, Atom, parse_format

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
Writer = Callable[[Record, Fields], str | int]  # writes what an atom stands for


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
    template, atoms = "", list[Writer]()
    fixed = {"l": "-", "p": f"<{process_id}>"}
    for part in parse_format(text):
        if isinstance(part, str):
            template += part.replace("%", "%%")
        elif part.kind in fixed:
            template += (f"%{part.conversion}" % fixed[part.kind]).replace("%", "%%")
        else:
            template += f"%{part.conversion}"
            atoms.append(_writer_of(part, timestamps))
    reads_fields = bool(_reads_fields(text))

    def line(record: Record) -> str:
        fields = dict(record.headers) if reads_fields else {}
        return template % tuple([atom(record, fields) for atom in atoms])

    return line


# -- the atoms -------------------------------------------------------------------------------------------------

_reads_fields = re.compile(r"%\((?:[ufa]|\{[^()]*\}i)\)").search


def _writer_of(atom: Atom, timestamps: Timestamps) -> Writer:
    if atom.kind == "t":
        return lambda record, fields: timestamps.clf(record.time)
    return _NAMED[atom.kind](atom.name) if atom.name else _WRITERS[atom.kind]


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


def _request_field(name: str) -> Writer:
    wanted = name.lower().encode()
    return lambda record, fields: escaped(fields.get(wanted) or b"-")


def _response_field(name: str) -> Writer:
    wanted = name.lower().encode()

    def atom(record: Record, fields: Fields) -> str:
        values = [value for name, value in record.response_headers if name.lower() == wanted]
        return escaped((values and values[-1]) or b"-")

    return atom


def _variable(name: str) -> Writer:
    """Read a variable of `environ`; gunicorn's users write its name in lower case."""
    upper = name.upper()

    def atom(record: Record, fields: Fields) -> str:
        value = record.environ.get(name, record.environ.get(upper))
        return "-" if value is None else escaped_text(str(value))

    return atom


_NAMED: dict[str, Callable[[str], Writer]] = {"i": _request_field, "o": _response_field, "e": _variable}
_WRITERS: dict[str, Writer] = {
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
