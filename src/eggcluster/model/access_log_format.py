"""The format of the access log's lines: gunicorn's atoms, or JSON. Pure; read with the options, and in app workers."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from eggcluster.wording import shown

DEFAULT_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
JSON = "json"
ATOMS = "hurmUqHsBbfaTMDLtlp"  # one letter each; http/access_log.py and docs/http.md have what they write
_NUMBERS = frozenset("sBTMD")  # the atoms that may be written with `d`, too

_token = re.compile(r"[^%]+|%(?:%|\(([^()]*)\)(-?[0-9]*(?:\.[0-9]+)?[sd])|)")  # text, `%%`, an atom, or a wrong `%`
_named = re.compile(r"\{([^{}]+)\}([ioe])").fullmatch


class Atom(NamedTuple):
    """What a format names: `kind` is one of ATOMS, or `i`, `o`, `e` for the header or variable `name`.

    `conversion` is that of printf: such as `s`, `d`, `-10s`.
    """

    kind: str
    name: str
    conversion: str


def parse_format(text: str) -> Iterator[str | Atom]:
    """Yield the parts of a format in order: text as it is, and atoms.

    ValueError with one line for a format that is empty, for an unknown atom, and for a conversion that it has not.
    """
    if not text.strip():
        raise ValueError(f"the access log's format is empty: write {JSON}, or a format such as {DEFAULT_FORMAT}")
    for found in _token.finditer(text):
        if found[0][0] != "%":
            yield found[0]
        elif found[0] == "%%":
            yield "%"
        elif found[1] is None:
            raise ValueError(f"the access log's format has a % that begins no atom: {shown(text[found.start() :])}")
        else:
            yield _atom(found[1], found[2])


def _atom(key: str, conversion: str) -> Atom:
    named = _named(key)
    if named is None and (len(key) != 1 or key not in ATOMS):
        known = " ".join((*ATOMS, "{Header}i", "{Header}o", "{VARIABLE}e"))
        raise ValueError(f"the access log has no atom {shown(key)}; it has: {known}")
    if conversion.endswith("d") and key not in _NUMBERS:
        raise ValueError(f"the access log's atom %({key})d is not a number: write %({key})s")
    return Atom(named[2], named[1], conversion) if named is not None else Atom(key, "", conversion)
