"""The beginning of a MessagePack value as text, the rest not decoded: for `eggcluster messages`. Runs in the master.

A message may have 16 MiB, and a person reads its first lines. Decoding all of it would hold the master up, and keeping
its text would take the master's memory.
"""

import struct
from collections.abc import Callable
from enum import Enum

from eggcluster.errors import FrameError
from eggcluster.ipc.frame import decode_body

MAX_DEPTH = 32  # of nested arrays and maps; what lies deeper is cut off


class _Shape(Enum):
    TEXT = "text"
    BYTES = "bytes"
    ARRAY = "array"
    MAP = "map"
    EXTENSION = "extension"


# By first byte, as in the MessagePack specification: the size of a scalar, first byte included ...
_SCALARS = {
    **dict.fromkeys([*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3], 1),
    **dict(zip([*range(0xCA, 0xD4)], [5, 9, 2, 3, 5, 9, 2, 3, 5, 9], strict=True)),
    **dict(zip([*range(0xD4, 0xD9)], [3, 4, 6, 10, 18], strict=True)),
}
# ... and the shape of everything else, with the format of the length behind the first byte.
_SIZED = {
    **{0xC4 + n: (_Shape.BYTES, form) for n, form in enumerate((">B", ">H", ">I"))},
    **{0xC7 + n: (_Shape.EXTENSION, form) for n, form in enumerate((">B", ">H", ">I"))},
    **{0xD9 + n: (_Shape.TEXT, form) for n, form in enumerate((">B", ">H", ">I"))},
    **{0xDC + n: (_Shape.ARRAY, form) for n, form in enumerate((">H", ">I"))},
    **{0xDE + n: (_Shape.MAP, form) for n, form in enumerate((">H", ">I"))},
}


class _Full(Exception):
    """The text has reached its limit."""


def preview_message(body: memoryview, limit: int) -> tuple[str, Callable[[], str]]:
    """Return a message's action, and a function that returns its data's `repr`; both are cut after `limit` characters.
    FrameError if the body does not begin like a message. The data are looked at only if the function is called."""
    if not body or body[0] != 0x92:
        raise FrameError("the message is not a pair of action and data")
    walk = _Walk(body[1:], limit)
    try:
        action = walk.take_text()
    except (IndexError, struct.error) as error:
        raise FrameError(f"the message's action cannot be read: {error}") from None
    return action, lambda: preview(body[1 + walk.at :], limit)


def preview(data: memoryview, limit: int) -> str:
    """Return the `repr` of a MessagePack value; what exceeds `limit` characters, or cannot be read, is `...`."""
    walk = _Walk(data, limit)
    try:
        walk.value(0)
    except (_Full, FrameError, IndexError, struct.error):
        walk.parts.append("...")
    return "".join(walk.parts)


class _Walk:
    """Reads values from `at` on, and puts their text into `parts` until `limit` characters are there."""

    def __init__(self, data: memoryview, limit: int) -> None:
        self.at = 0
        self.parts: list[str] = []
        self._data = data
        self._limit = self._left = limit

    def value(self, depth: int) -> None:
        """Read one value. _Full at the limit; FrameError, IndexError or struct.error if it is invalid."""
        scalar = _SCALARS.get(self._data[self.at])
        if scalar is not None:
            self._scalar(scalar)
            return
        shape, count = self._head()
        if shape is _Shape.TEXT or shape is _Shape.BYTES:
            self._string(shape, count)
        elif shape is _Shape.EXTENSION:
            self.at += 1 + count
            self._add(f"<extension, {count} bytes>")
        elif depth >= MAX_DEPTH:
            raise _Full
        elif shape is _Shape.ARRAY:
            self._items(count, "[]", lambda: self.value(depth + 1))
        else:
            self._items(count, "{}", lambda: self._pair(depth + 1))

    def take_text(self) -> str:
        """Read one string and return its beginning. FrameError if the next value is no string."""
        shape, count = self._head()
        if shape is not _Shape.TEXT:
            raise FrameError("the message's action is not a string")
        return self._take(count).decode("utf-8", "replace")

    def _head(self) -> tuple[_Shape, int]:
        """Read the first byte of a value that is no scalar, and its length."""
        first = self._data[self.at]
        self.at += 1
        if first < 0x90:
            return _Shape.MAP, first & 0x0F
        if first < 0xA0:
            return _Shape.ARRAY, first & 0x0F
        if first < 0xC0:
            return _Shape.TEXT, first & 0x1F
        if first not in _SIZED:
            raise FrameError(f"MessagePack has no value that begins with {first:#x}")
        shape, form = _SIZED[first]
        count: int = struct.unpack_from(form, self._data, self.at)[0]
        self.at += struct.calcsize(form)
        return shape, count

    def _scalar(self, size: int) -> None:
        value = bytes(self._data[self.at : self.at + size])
        self.at += size
        self._add(repr(decode_body(value)))

    def _string(self, shape: _Shape, count: int) -> None:
        start = self._take(count)
        self._add(repr(start.decode("utf-8", "replace") if shape is _Shape.TEXT else start))
        if len(start) < count:
            raise _Full

    def _take(self, count: int) -> bytes:
        """Return the beginning of the next `count` bytes, a copy, and go on behind all of them."""
        start = bytes(self._data[self.at : self.at + min(count, self._limit)])
        self.at += count
        return start

    def _items(self, count: int, brackets: str, read: Callable[[], None]) -> None:
        self._add(brackets[0])
        for number in range(count):
            if number:
                self._add(", ")
            read()
        self._add(brackets[1])

    def _pair(self, depth: int) -> None:
        self.value(depth)
        self._add(": ")
        self.value(depth)

    def _add(self, text: str) -> None:
        self.parts.append(text[: self._left])
        self._left -= len(text)
        if self._left < 0:
            raise _Full
