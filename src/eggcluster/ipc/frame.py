"""Frames: a fixed header and a MessagePack body. Bytes in, frames out; no I/O. Runs at both ends of every channel.

    length u32 | kind u8 | target u8 | reserved u16 | target id u64 | source u32 | request id u32 | body

The header alone tells the master where a frame goes, so it relays bodies without reading them.
"""

import struct
from typing import Any

import msgspec

from eggcluster.errors import FrameError, MessageTooLarge, NotSerializable
from eggcluster.model.message import Kind, Target

HEADER = struct.Struct("<IBBHQII")
MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # a body's; the contract's default

_encoder = msgspec.msgpack.Encoder()
_KINDS = {int(kind): kind for kind in Kind}
_TARGETS = {int(target): target for target in Target}


def read_limit(max_message_bytes: int) -> int:
    """The longest body that a reader lets in: the option limits what applications send, but the master's own
    messages, such as the status or the report of a failed boot, may be longer than a small one."""
    return max(max_message_bytes, MAX_MESSAGE_BYTES)


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame as it was received. `raw` is the whole of it, ready to be relayed."""

    kind: Kind
    target: Target
    target_id: int
    source: int
    request_id: int
    raw: bytes

    @property
    def body(self) -> memoryview:
        return memoryview(self.raw)[HEADER.size :]


def encode_frame(
    kind: Kind,
    target: Target,
    content: Any,
    *,
    target_id: int = 0,
    source: int = 0,
    request_id: int = 0,
    max_bytes: int = MAX_MESSAGE_BYTES,
) -> bytes:
    """A frame's bytes. NotSerializable and MessageTooLarge are raised here, in the sender."""
    buffer = bytearray(HEADER.size)
    try:
        _encoder.encode_into(content, buffer, HEADER.size)
    except (TypeError, OverflowError, ValueError, RecursionError) as error:
        raise NotSerializable(f"MessagePack cannot carry this: {error}") from None
    length = len(buffer) - HEADER.size
    if length > max_bytes:
        raise MessageTooLarge(f"the message has {length} bytes, max_message_bytes is {max_bytes}")
    HEADER.pack_into(buffer, 0, length, kind, target, 0, target_id, source, request_id)
    return bytes(buffer)


def decode_body(body: bytes | memoryview, type: Any = Any) -> Any:
    """A body's content, checked against `type`; FrameError for what is not MessagePack or not of that shape."""
    try:
        return msgspec.msgpack.decode(body, type=type)
    except (msgspec.DecodeError, ValueError, RecursionError, MemoryError) as error:
        raise FrameError(f"a body that cannot be read: {error}") from None


class FrameReader:
    """Turns a stream's chunks into frames, however they are cut.

    Lengths, kinds and targets are checked before a body is waited for; what is no frame raises FrameError, after
    which the reader must not be fed again.
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that `chunk` completes."""
        data: bytes | bytearray = chunk
        if self._rest:
            self._rest += chunk
            data = self._rest
        frames: list[Frame] = []
        used = self._take(data, frames)
        if data is self._rest:
            del self._rest[:used]
        elif used < len(chunk):
            self._rest += memoryview(chunk)[used:]
        return frames

    def _take(self, data: bytes | bytearray, frames: list[Frame]) -> int:
        """Append the complete frames at the head of `data`; gives how many bytes they took."""
        offset, end = 0, len(data)
        while end - offset >= HEADER.size:
            length, kind, target, _, target_id, source, request_id = HEADER.unpack_from(data, offset)
            self._check(length, kind, target)
            stop = offset + HEADER.size + length
            if stop > end:
                break
            raw = bytes(memoryview(data)[offset:stop])
            frames.append(Frame(_KINDS[kind], _TARGETS[target], target_id, source, request_id, raw))
            offset = stop
        return offset

    def _check(self, length: int, kind: int, target: int) -> None:
        if length > self._max_bytes:
            raise FrameError(f"a frame of {length} bytes, the limit is {self._max_bytes}")
        if kind not in _KINDS or target not in _TARGETS:
            raise FrameError(f"no frame has kind {kind} and target {target}")
