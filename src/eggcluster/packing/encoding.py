"""Encodes values as MessagePack, byte for byte as msgspec does. Used if msgspec cannot be loaded."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from eggcluster.packing.values import TIMESTAMP, Ext, Struct, timestamp

_Writer = Callable[[bytearray, Any, bool], None]
_pack_float = struct.Struct(">Bd").pack
_UNSIGNED = [(1 << 8, struct.Struct(">BB"), 0xCC), (1 << 16, struct.Struct(">BH"), 0xCD)]
_UNSIGNED += [(1 << 32, struct.Struct(">BI"), 0xCE), (1 << 64, struct.Struct(">BQ"), 0xCF)]
_SIGNED = [(-(1 << 7), struct.Struct(">Bb"), 0xD0), (-(1 << 15), struct.Struct(">Bh"), 0xD1)]
_SIGNED += [(-(1 << 31), struct.Struct(">Bi"), 0xD2), (-(1 << 63), struct.Struct(">Bq"), 0xD3)]
_FIXED_EXTENSIONS = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}


def encode(value: Any) -> bytes:
    """Return `value` as MessagePack.

    Raises TypeError for an unsupported type, OverflowError for an int of more than 64 bits, UnicodeEncodeError for a
    lone surrogate, RecursionError for a value that is nested too deeply.
    """
    return _encode(value, False)


class Encoder:
    """Encodes values. With `order="deterministic"` equal values have equal bytes: sets and dict keys are sorted."""

    def __init__(self, *, order: str | None = None) -> None:
        self._sorted = order is not None

    def encode(self, value: Any) -> bytes:
        return _encode(value, self._sorted)


def encode_json(value: Any) -> bytes:
    """Return plain values as JSON without spaces."""
    import json  # only needed for log lines in that format

    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _encode(value: Any, ordered: bool) -> bytes:
    out = bytearray()
    _WRITERS[type(value)](out, value, ordered)
    return bytes(out)


def _head(out: bytearray, size: int, fixed: int, room: int, codes: Sequence[int]) -> None:
    """Write a type with its size. A size below `room` fits into the type's own byte."""
    if size < room:
        out.append(fixed | size)
    elif size < 1 << 8 and len(codes) == 3:
        out += bytes((codes[0], size))
    elif size < 1 << 16:
        out.append(codes[-2])
        out += size.to_bytes(2, "big")
    else:
        out.append(codes[-1])
        out += size.to_bytes(4, "big")  # OverflowError from 4 GiB on


# -- one writer for each type ------------------------------------------------------------------------------


def _write_none(out: bytearray, value: None, ordered: bool) -> None:
    out.append(0xC0)


def _write_bool(out: bytearray, value: bool, ordered: bool) -> None:
    out.append(0xC3 if value else 0xC2)


def _write_int(out: bytearray, value: int, ordered: bool) -> None:
    if -32 <= value < 128:
        out.append(value & 0xFF)
        return
    for limit, form, code in _UNSIGNED if value >= 0 else _SIGNED:
        if limit <= value < 0 or 0 <= value < limit:
            out += form.pack(code, value)
            return
    raise OverflowError("can't serialize ints < -2**63 or > 2**64 - 1")


def _write_float(out: bytearray, value: float, ordered: bool) -> None:
    out += _pack_float(0xCB, value)


def _write_str(out: bytearray, value: str, ordered: bool) -> None:
    data = value.encode()
    size = len(data)
    if size < 32:  # most are, and most values are strings
        out.append(0xA0 | size)
    else:
        _head(out, size, 0, 0, (0xD9, 0xDA, 0xDB))
    out += data


def _write_bytes(out: bytearray, value: bytes | bytearray | memoryview, ordered: bool) -> None:
    data = value.tobytes() if isinstance(value, memoryview) else value
    _head(out, len(data), 0, 0, (0xC4, 0xC5, 0xC6))
    out += data


def _write_array(out: bytearray, value: Sequence[Any], ordered: bool) -> None:
    _head(out, len(value), 0x90, 16, (0xDC, 0xDD))
    for each in value:
        _WRITERS[type(each)](out, each, ordered)


def _write_set(out: bytearray, value: set[Any] | frozenset[Any], ordered: bool) -> None:
    _write_array(out, sorted(value) if ordered else list(value), ordered)


def _write_map(out: bytearray, value: dict[Any, Any], ordered: bool) -> None:
    _head(out, len(value), 0x80, 16, (0xDE, 0xDF))
    items = list(value.items())
    if ordered:
        if not all(type(key) is str for key, _ in items):
            raise TypeError("Only dicts with str keys are supported when `order` is not `None`")
        items.sort(key=lambda item: item[0])
    for key, each in items:
        _WRITERS[type(key)](out, key, ordered)
        _WRITERS[type(each)](out, each, ordered)


def _write_extension(out: bytearray, value: Ext, ordered: bool) -> None:
    size = len(value.data)
    if size in _FIXED_EXTENSIONS:
        out.append(_FIXED_EXTENSIONS[size])
    else:
        _head(out, size, 0, 0, (0xC7, 0xC8, 0xC9))
    out += value.code.to_bytes(1, "big", signed=True) + value.data


def _write_datetime(out: bytearray, value: datetime, ordered: bool) -> None:
    if value.tzinfo is None:
        _write_str(out, value.isoformat(), ordered)
    else:
        _write_extension(out, Ext(TIMESTAMP, timestamp(value)), ordered)


def _write_time(out: bytearray, value: time, ordered: bool) -> None:
    _write_str(out, value.isoformat().replace("+00:00", "Z"), ordered)


def _write_duration(out: bytearray, value: timedelta, ordered: bool) -> None:
    """Write an ISO 8601 duration, in days and seconds."""
    sign, length = ("-", -value) if value.days < 0 else ("", value)
    days = f"{length.days}D" if length.days or not length else ""
    fraction = f".{length.microseconds:06}".rstrip("0") if length.microseconds else ""
    seconds = f"T{length.seconds}{fraction}S" if length.seconds or length.microseconds else ""
    _write_str(out, f"{sign}P{days}{seconds}", ordered)


def _write_as_text(out: bytearray, value: date | Decimal | UUID, ordered: bool) -> None:
    _write_str(out, str(value), ordered)


def _write_enum(out: bytearray, value: Enum, ordered: bool) -> None:
    _WRITERS[type(value.value)](out, value.value, ordered)


def _record_writer(cls: Any) -> _Writer:
    """Return a writer for a dataclass, an attrs class or a Struct."""
    fields = tuple(getattr(cls, "__dataclass_fields__", None) or [each.name for each in cls.__attrs_attrs__])

    def write_map(out: bytearray, value: Any, ordered: bool) -> None:
        present = [name for name in fields if hasattr(value, name)]
        _head(out, len(present), 0x80, 16, (0xDE, 0xDF))
        for name in present:
            _write_str(out, name, ordered)
            each = getattr(value, name)
            _WRITERS[type(each)](out, each, ordered)

    def write_array(out: bytearray, value: Any, ordered: bool) -> None:
        _write_array(out, (*cls.packed_tag, *(getattr(value, name) for name in fields)), ordered)

    return write_array if issubclass(cls, Struct) and cls.packed_as_array else write_map


class _Writers(dict[type, _Writer]):
    """Writers by exact type. For another type, the writer is looked up by its base, once."""

    def __missing__(self, cls: type) -> _Writer:
        writer = next((writer for base, writer in _INHERITED.items() if issubclass(cls, base)), None)
        if writer is None:
            if not is_dataclass(cls) and not hasattr(cls, "__attrs_attrs__"):
                raise TypeError(f"Encoding objects of type {cls.__qualname__} is unsupported")
            writer = _record_writer(cls)
        self[cls] = writer
        return writer


# An enum is encoded as its value. Of other types, only subclasses of containers and of UUID are supported.
_INHERITED: dict[type, _Writer] = {
    Enum: _write_enum,
    list: _write_array,
    tuple: _write_array,
    set: _write_set,
    frozenset: _write_set,
    dict: _write_map,
    UUID: _write_as_text,
}
_WRITERS = _Writers(
    {
        type(None): _write_none,
        bool: _write_bool,
        int: _write_int,
        float: _write_float,
        str: _write_str,
        bytes: _write_bytes,
        bytearray: _write_bytes,
        memoryview: _write_bytes,
        list: _write_array,
        tuple: _write_array,
        set: _write_set,
        frozenset: _write_set,
        dict: _write_map,
        datetime: _write_datetime,
        date: _write_as_text,
        time: _write_time,
        timedelta: _write_duration,
        Decimal: _write_as_text,
        UUID: _write_as_text,
        Ext: _write_extension,
    }
)
