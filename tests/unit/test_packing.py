"""The replacement of msgspec: the same bytes, the same values, the same errors."""

import datetime
import enum
import json
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eggcluster import packing
from eggcluster.packing import conversion, decoding, encoding
from eggcluster.packing import values as own_types
from eggcluster.packing.values import Ext

# Errors that both may raise, by the name that an application may have been promised: errors.py is made of these.
ENCODING = (TypeError, OverflowError, ValueError, RecursionError)
DECODING = (msgspec.DecodeError, own_types.DecodeError, ValueError, RecursionError, MemoryError)


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)
    HALF = 0.5


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 1000


class Mood(enum.StrEnum):
    GOOD = "good"


Pair = namedtuple("Pair", "left right")


@dataclass
class Point:
    x: Any
    y: Any = None
    _hidden: Any = 3


@dataclass(frozen=True, slots=True)
class Slim:
    a: Any


class Tags(list[Any]): ...


class Number(int): ...


class Text(str): ...


def outcome(work: Callable[..., Any], value: Any, errors: tuple[type[Exception], ...]) -> str:
    """What `work` makes of `value`; as a text, so that a NaN is equal, too. Or the name of the error that it raised,
    one of `errors`."""
    try:
        return repr(work(value))
    except errors as error:
        return type(error).__name__


# Zones at whole minutes: with seconds in the offset, msgspec rounds what ISO 8601 cannot say.
zones = st.integers(-1439, 1439).map(lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes)))
keys = st.text(max_size=40) | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.binary(max_size=9)
scalars: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=300)
    | st.binary(max_size=300)
    | st.binary(max_size=20).map(bytearray)
    | st.binary(max_size=20).map(lambda data: memoryview(data))
    | st.datetimes()
    | st.datetimes(timezones=zones | st.none() | st.just(datetime.UTC))
    | st.dates()
    | st.times(timezones=zones | st.none() | st.just(datetime.UTC))
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.sampled_from([*Colour, *Level, *Mood, Number(3), Text("x"), object(), 1j, range(2), Point, Exception("x")])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(Tags)
        | st.dictionaries(keys, inner, max_size=20)
        | st.dictionaries(keys, inner, max_size=3).map(OrderedDict)
        | st.sets(keys, max_size=5)
        | st.frozensets(st.text(max_size=3), max_size=5)
        | st.builds(Pair, inner, inner)
        | st.builds(Point, inner, inner)
        | st.builds(Slim, inner)
    ),
    max_leaves=20,
)


def test_msgspec_is_used_if_it_can_be_loaded() -> None:
    assert packing.Encoder is msgspec.msgpack.Encoder
    assert packing.Decoder is msgspec.msgpack.Decoder
    assert packing.convert is msgspec.convert
    assert packing.Struct is msgspec.Struct


@given(values)
def test_the_same_bytes(value: Any) -> None:
    assert outcome(encoding.encode, value, ENCODING) == outcome(msgspec.msgpack.encode, value, ENCODING)


@given(values)
def test_the_same_bytes_in_a_certain_order(value: Any) -> None:
    theirs, ours = msgspec.msgpack.Encoder(order="deterministic"), encoding.Encoder(order="deterministic")
    assert outcome(ours.encode, value, ENCODING) == outcome(theirs.encode, value, ENCODING)


@given(values)
def test_the_same_values(value: Any) -> None:
    try:
        packed = msgspec.msgpack.encode(value)
    except ENCODING:
        return
    assert repr(decoding.decode_any(memoryview(packed))) == repr(msgspec.msgpack.decode(packed))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536])
def test_sizes_around_each_head(size: int) -> None:
    for value in ("x" * size, b"x" * size, [1] * size, dict.fromkeys(range(size))):
        packed = msgspec.msgpack.encode(value)
        assert encoding.encode(value) == packed
        assert decoding.decode_any(packed) == value


@pytest.mark.parametrize("bits", [5, 7, 8, 15, 16, 31, 32, 63, 64])
@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_around_each_form(bits: int, sign: int) -> None:
    for value in (sign * 2**bits + each for each in (-1, 0, 1)):
        assert outcome(encoding.encode, value, ENCODING) == outcome(msgspec.msgpack.encode, value, ENCODING)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 8, 12, 16, 17, 255, 256, 65536])
def test_extensions_of_every_size(size: int) -> None:
    packed = msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"x" * size))
    assert encoding.encode(Ext(5, b"x" * size)) == packed
    assert decoding.decode_any(packed) == Ext(5, b"x" * size)


EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize("seconds", [0, -1, 1, 2**32 - 1, 2**32, 2**34 - 1, 2**34])
@pytest.mark.parametrize("microseconds", [0, 1, 999_999])
def test_instants_around_each_form(seconds: int, microseconds: int) -> None:
    instant = EPOCH + datetime.timedelta(seconds=seconds, microseconds=microseconds)
    assert encoding.encode(instant) == msgspec.msgpack.encode(instant)
    assert decoding.decode_any(encoding.encode(instant)) == instant


@pytest.mark.parametrize("length", [{}, {"days": 1}, {"days": -1}, {"microseconds": -1}, {"seconds": 90061.5}])
def test_durations_with_and_without_days(length: dict[str, float]) -> None:
    duration = datetime.timedelta(**length)
    assert encoding.encode(duration) == msgspec.msgpack.encode(duration)


@example(499, 0)
@example(500, 0)
@given(st.integers(0, 2**32 - 1), st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**36), 2**38))
def test_instants_on_every_nanosecond(nanoseconds: int, seconds: int) -> None:
    data = nanoseconds.to_bytes(4, "big") + seconds.to_bytes(8, "big", signed=True)
    agree(b"\xc7\x0c\xff" + data)
    agree(b"\xd7\xff" + data[:8])
    agree(b"\xd6\xff" + data[:4])


def agree(packed: bytes) -> None:
    """Both read the same, or refuse it with the same kind of error."""
    theirs, ours = outcome(msgspec.msgpack.decode, packed, DECODING), outcome(decoding.decode_any, packed, DECODING)
    assert ours == theirs or "Ext object" in theirs  # which says nothing of its content


HEADS = [bytes([each]) for each in range(256)]
pieces = st.sampled_from(HEADS) | st.binary(max_size=3) | st.sampled_from([b"\xc7\x0c\xff", b"\xd6\xff", b"\x81\x91"])


@given(st.lists(pieces, max_size=30).map(b"".join))
def test_garbage_is_refused_by_both_or_has_the_same_value(packed: bytes) -> None:
    agree(packed)


def test_deep_nesting_and_false_sizes_are_refused() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    assert outcome(encoding.encode, nested, ENCODING) == "RecursionError"
    while nested:
        nested = nested.pop()  # in steps: to free it at once takes a stack as deep
    assert outcome(decoding.decode_any, b"\x91" * 100_000 + b"\x90", DECODING) == "RecursionError"
    for packed in (
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"",
    ):
        agree(packed)


# -- typed values ------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    version: int
    raw: bytes | None
    expires: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    app: str = field(default="app:app", kw_only=False)
    ports: tuple[int, ...] = ()
    via: Literal["bpf", "acceptor"] = "bpf"
    limit: int | None = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class JournalEntry:
    name: str
    settings: Settings
    entries: list[tuple[str, Entry]]
    number: float | int = 0


def twins(base: Any, above_zero: Any) -> Any:
    """Structs that one implementation makes; the other one's twins have the same names."""

    class Set(base, array_like=True, frozen=True, tag=True):  # type: ignore[misc, call-arg]
        key: str
        raw: bytes
        ttl: Annotated[float, above_zero] | None = None

    class Delete(base, array_like=True, frozen=True, tag=True):  # type: ignore[misc, call-arg]
        key: str

    class Order(base):  # type: ignore[misc]
        role: str
        settings: Settings
        fds: list[int] = []  # noqa: RUF012
        kept: dict[str, bytes] = {}  # noqa: RUF012
        ttl: Annotated[float, above_zero] = 1.0

    for each in (Set, Delete, Order):
        each.__qualname__ = each.__name__  # in the text of a dataclass
    return {"write": Set | Delete, "order": Order, "row": tuple[str, Order], "set": Set, "delete": Delete}


THEIRS, OURS = twins(msgspec.Struct, msgspec.Meta(gt=0)), twins(own_types.Struct, own_types.Meta(gt=0))
PLAIN: list[Any] = [None, bool, int, float, str, bytes, list[int], tuple[int, ...], tuple[int, str], tuple[str, Any]]
PLAIN += [dict[str, int], dict[str, list[int]], int | None, float | int, str | None, Literal["a", 1], Any]
PLAIN += [Entry, tuple[str, Entry], Settings, JournalEntry, tuple[int, list[tuple[str, Entry]]], list[Settings] | None]
NAMES = ["app", "ports", "via", "limit", "more", "name", "settings", "entries", "number", "role", "fds", "kept", "ttl"]

REFUSALS = (msgspec.ValidationError, own_types.ValidationError)

# No text that could be base64: msgspec.convert would take it for bytes, as in JSON. Over a channel none comes so.
simple = st.sampled_from([None, True, 0, 1, -1, 5, 2**63, 1.5, "a", "bpf", "Set", "Delete", b"", b"x"])
shaped = st.recursive(
    simple,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.just("z"), inner, max_size=4)
        | st.tuples(st.sampled_from(["Set", "Delete"]), st.just("k"), inner, inner).map(list)
        | st.fixed_dictionaries({"role": st.just("app"), "settings": inner}, optional={"fds": inner, "ttl": simple})
        | st.fixed_dictionaries({"name": st.just("n"), "settings": st.just({}), "entries": st.just([])})
    ),
    max_leaves=8,
)


@example(5)
@example(["Set", "k", b"", 0])
@example(["Set", "k", b"", 1])
@given(shaped)
def test_the_same_typed_values_and_the_same_refusals(value: Any) -> None:
    packed = msgspec.msgpack.encode(value)
    for theirs, ours in [*zip(PLAIN, PLAIN, strict=True), *zip(THEIRS.values(), OURS.values(), strict=True)]:
        told = outcome(partial(msgspec.convert, type=theirs), value, REFUSALS)
        assert outcome(partial(conversion.convert, type=ours), value, REFUSALS) == told, theirs
        told = outcome(partial(msgspec.msgpack.decode, type=theirs), packed, REFUSALS)
        assert outcome(conversion.Decoder(ours).decode, packed, REFUSALS) == told, theirs


def test_structs_have_the_same_bytes() -> None:
    for implementation, encode in ((THEIRS, msgspec.msgpack.encode), (OURS, encoding.encode)):
        assert encode(implementation["set"]("k", b"v", 1.5)) == msgspec.msgpack.encode(["Set", "k", b"v", 1.5])
        assert encode(implementation["delete"]("k")) == msgspec.msgpack.encode(["Delete", "k"])
        order = implementation["order"]("app", Settings("x"))
        assert msgspec.msgpack.decode(encode(order))["fds"] == []
        assert order.fds is not implementation["order"]("app", Settings("x")).fds
        assert hash(implementation["delete"]("k")) == hash(implementation["delete"]("k"))


def test_an_unsupported_type_is_a_bug() -> None:
    with pytest.raises(TypeError, match="BUG"):
        conversion.convert([], uuid.UUID)


def test_json_lines_are_the_same() -> None:
    line = {"message": 'é\x00\x1f\u2028/"\\\n\t☃', "pid": 4711, "level": None}
    assert encoding.encode_json(line) == msgspec.json.encode(line)
    assert json.loads(encoding.encode_json(line)) == line
    with pytest.raises(UnicodeEncodeError):
        encoding.encode_json("\ud800")
