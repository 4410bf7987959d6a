"""Decodes MessagePack to plain values, as msgspec does. Used if msgspec cannot be loaded."""

import struct
from collections.abc import Callable
from typing import Any

from eggcluster.packing.values import DecodeError, Ext, extension

_Reader = Callable[[bytes, int], tuple[Any, int]]  # (the bytes, start of the content) -> (the value, its end)


def decode_any(packed: bytes | bytearray | memoryview) -> Any:
    """Return the value in `packed`.

    Raises a DecodeError or UnicodeDecodeError if it is not valid, RecursionError if it is nested too deeply.
    """
    data = bytes(packed)
    try:
        value, end = _READERS[data[0]](data, 1)
    except (IndexError, struct.error):
        raise DecodeError("Input data was truncated") from None
    if end != len(data):
        raise DecodeError(f"MessagePack data is malformed: trailing characters (byte {end})")
    return value


def _cut(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    end = at + size
    if end > len(data):
        raise DecodeError("Input data was truncated")
    return data[at:end], end


# -- makers of readers --------------------------------------------------------------------------------------


def _constant(value: Any) -> _Reader:
    return lambda data, at: (value, at)


def _number(form: str) -> _Reader:
    number = struct.Struct(form)
    size, unpack = number.size, number.unpack_from
    return lambda data, at: (unpack(data, at)[0], at + size)


def _text(size: int) -> _Reader:
    def read(data: bytes, at: int) -> tuple[str, int]:
        end = at + size
        if end > len(data):
            raise DecodeError("Input data was truncated")
        return data[at:end].decode(), end

    return read


def _array(count: int) -> _Reader:
    def read(data: bytes, at: int) -> tuple[list[Any], int]:
        values = []
        for _ in range(count):
            value, at = _READERS[data[at]](data, at + 1)
            values.append(value)
        return values, at

    return read


def _map(count: int) -> _Reader:
    def read(data: bytes, at: int) -> tuple[dict[Any, Any], int]:
        values: dict[Any, Any] = {}
        for _ in range(count):
            key, at = _READERS[data[at]](data, at + 1)
            if type(key) is not str:
                key = _hashable(key)
            values[key], at = _READERS[data[at]](data, at + 1)
        return values, at

    return read


def _extension(size: int) -> _Reader:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        code, content = struct.unpack_from("b", data, at)[0], _cut(data, at + 1, size)
        return extension(code, content[0]), content[1]

    return read


def _binary(size: int) -> _Reader:
    return lambda data, at: _cut(data, at, size)


def _sized(form: str, reader_of: Callable[[int], _Reader]) -> _Reader:
    """Return a reader of a value that begins with its size."""
    number = struct.Struct(form)
    size, unpack = number.size, number.unpack_from
    return lambda data, at: reader_of(unpack(data, at)[0])(data, at + size)


def _unknown(data: bytes, at: int) -> tuple[Any, int]:
    raise DecodeError(f"MessagePack data is malformed: invalid opcode '\\xc1' (byte {at - 1})")


def _hashable(key: Any) -> Any:
    """Return a value as a key of a dict: arrays become tuples."""
    if type(key) is list:
        return tuple(map(_hashable, key))
    if isinstance(key, (dict, Ext)):
        raise DecodeError("MessagePack data is malformed: map keys must be hashable")
    return key


# One per first byte, in the order of the MessagePack specification.
_READERS: list[_Reader] = [
    *map(_constant, range(128)),
    *map(_map, range(16)),
    *map(_array, range(16)),
    *map(_text, range(32)),
    _constant(None),
    _unknown,
    _constant(False),
    _constant(True),
    *(_sized(form, _binary) for form in (">B", ">H", ">I")),
    *(_sized(form, _extension) for form in (">B", ">H", ">I")),
    *map(_number, (">f", ">d", ">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q")),
    *map(_extension, (1, 2, 4, 8, 16)),
    *(_sized(form, _text) for form in (">B", ">H", ">I")),
    *(_sized(form, _array) for form in (">H", ">I")),
    *(_sized(form, _map) for form in (">H", ">I")),
    *map(_constant, range(-32, 0)),
]
