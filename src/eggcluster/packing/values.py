"""The types of packing: errors, Struct and Ext, as in msgspec. Used if msgspec cannot be loaded."""

import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, NamedTuple

TIMESTAMP = -1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORT, _MIDDLE, _LONG = struct.Struct(">I"), struct.Struct(">Q"), struct.Struct(">Iq")


class PackingError(ValueError):
    """Root of the errors of decoding."""


class DecodeError(PackingError):
    """The bytes are not valid MessagePack."""


class ValidationError(DecodeError):
    """The bytes are MessagePack, but not of the wanted type."""


class Meta(NamedTuple):
    """A bound of a number, beside its type: greater than `gt`."""

    gt: float


class Struct:
    """A record. An `array_like` one is packed as an array of its fields, with `tag` after the name of its class.

    `frozen` only makes it hashable: enforcing it would make creation four times as expensive. `gc` is ignored.
    """

    packed_as_array: ClassVar[bool] = False
    packed_tag: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(
        cls, *, array_like: bool = False, tag: bool = False, frozen: bool = False, gc: bool = True, **more: Any
    ) -> None:
        super().__init_subclass__(**more)
        cls.packed_as_array = array_like
        cls.packed_tag = (cls.__name__,) if tag else ()
        for name in cls.__annotations__:
            default = getattr(cls, name, None)
            if isinstance(default, (list, dict)):  # each record has a copy of its own, as in msgspec
                setattr(cls, name, field(default_factory=type(default)))
        dataclass(unsafe_hash=frozen)(cls)


@dataclass
class Ext:
    """A value of an application's own type, as bytes."""

    code: int
    data: bytes


def timestamp(instant: datetime) -> bytes:
    """Return an aware datetime as a timestamp, in the shortest form that holds it."""
    since = instant.astimezone(UTC) - _EPOCH
    seconds, nanoseconds = since.days * 86400 + since.seconds, since.microseconds * 1000
    if not 0 <= seconds < 1 << 34:
        return _LONG.pack(nanoseconds, seconds)
    if nanoseconds or seconds >= 1 << 32:
        return _MIDDLE.pack(nanoseconds << 34 | seconds)
    return _SHORT.pack(seconds)


def extension(code: int, data: bytes) -> datetime | Ext:
    """Return the value of an extension; ValidationError for a bad timestamp, or one outside of the years 1 to 9999."""
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
