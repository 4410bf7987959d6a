"""MessagePack's extension types: instants, and what only an application knows. Used where msgspec cannot be loaded."""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from eggcluster.packing.refusal import ValidationError

TIMESTAMP = -1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORT, _MIDDLE, _LONG = struct.Struct(">I"), struct.Struct(">Q"), struct.Struct(">Iq")


@dataclass
class Ext:
    """A value of an application's own type, as bytes."""

    code: int
    data: bytes


def timestamp(instant: datetime) -> bytes:
    """An aware instant, in the shortest form that holds it."""
    since = instant.astimezone(UTC) - _EPOCH
    seconds, nanoseconds = since.days * 86400 + since.seconds, since.microseconds * 1000
    if not 0 <= seconds < 1 << 34:
        return _LONG.pack(nanoseconds, seconds)
    if nanoseconds or seconds >= 1 << 32:
        return _MIDDLE.pack(nanoseconds << 34 | seconds)
    return _SHORT.pack(seconds)


def extension(code: int, data: bytes) -> datetime | Ext:
    """What these bytes say; ValidationError for an instant that is none, or lies beyond the years 1 to 9999."""
    if code != TIMESTAMP:
        return Ext(code, data)
    if len(data) == _SHORT.size:
        (seconds,), nanoseconds = _SHORT.unpack(data), 0
    elif len(data) == _MIDDLE.size:
        (both,) = _MIDDLE.unpack(data)
        nanoseconds, seconds = both >> 34, both & ((1 << 34) - 1)
    elif len(data) == _LONG.size:
        nanoseconds, seconds = _LONG.unpack(data)
    else:
        raise ValidationError("Invalid MessagePack timestamp")
    if nanoseconds > 999_999_999:
        raise ValidationError("Invalid MessagePack timestamp: nanoseconds out of range")
    try:
        return _EPOCH + timedelta(seconds=seconds, microseconds=(nanoseconds + 500) // 1000)
    except OverflowError:
        raise ValidationError("Timestamp is out of range") from None
