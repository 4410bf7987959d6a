"""Frames: a fixed header and a MessagePack body. Bytes in, frames out; no I/O. Runs at both ends of every channel.

    length u32 | kind u8 | target u8 | reserved u16 | target id u64 | source u32 | request id u32 | body

The header alone tells the master where a frame goes, so it relays bodies without reading them.
"""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from eggcluster.errors import FrameError, MessageTooLarge, NotSerializable
from eggcluster.model.message import Kind, Target

HEADER = struct.Struct("<IBBHQII")
MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # a body's; the contract's default

_LENGTH = struct.Struct("<I")
_KINDS = {int(kind): kind for kind in Kind}
_TARGETS = {int(target): target for target in Target}
# Messages to the same receivers, one after the other, go the same way: the master relays them as one piece. Not to a
# random one, where each goes its own way, nor to the master, who reads them.
_RUNS = frozenset((Target.AGENT, Target.PARENT, Target.APPS, Target.ALL, Target.SLOT, Target.WORKER))

_encode = msgspec.msgpack.Encoder().encode
_decode_message = msgspec.msgpack.Decoder(tuple[str, Any]).decode
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}  # one for each shape; to make one costs more than to decode


def read_limit(max_message_bytes: int) -> int:
    """The longest body that a reader lets in: the option limits what applications send, but the master's own
    messages, such as the status or the report of a failed boot, may be longer than a small one."""
    return max(max_message_bytes, MAX_MESSAGE_BYTES)


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame as it was received, or a run of `count` messages that go the same way. `raw` is ready to be relayed."""

    kind: Kind
    target: Target
    target_id: int
    source: int
    request_id: int
    raw: bytes
    count: int = 1

    @property
    def body(self) -> memoryview:
        return memoryview(self.raw)[HEADER.size :]

    def bodies(self) -> Iterator[memoryview]:
        """The bodies of a run, one after the other."""
        view, offset, size, unpack = memoryview(self.raw), 0, HEADER.size, _LENGTH.unpack_from
        while offset < len(view):
            start = offset + size
            offset = start + unpack(view, offset)[0]
            yield view[start:offset]


def encode_frame(
    kind: Kind,
    target: Target,
    content: Any,
    target_id: int = 0,
    source: int = 0,
    request_id: int = 0,
    max_bytes: int = MAX_MESSAGE_BYTES,
) -> bytes:
    """A frame's bytes. NotSerializable and MessageTooLarge are raised here, in the sender."""
    try:
        body = _encode(content)
    except (TypeError, OverflowError, ValueError, RecursionError) as error:
        raise NotSerializable(f"MessagePack cannot carry this: {error}") from None
    if len(body) > max_bytes:
        raise MessageTooLarge(f"the message has {len(body)} bytes, max_message_bytes is {max_bytes}")
    return HEADER.pack(len(body), kind, target, 0, target_id, source, request_id) + body


def decode_body(body: bytes | memoryview, type: Any = Any) -> Any:
    """A body's content, checked against `type`; FrameError for what is not MessagePack or not of that shape."""
    decoder = _decoders.get(type)
    if decoder is None:
        decoder = _decoders[type] = msgspec.msgpack.Decoder(type)
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError, MemoryError) as error:
        raise FrameError(f"a body that cannot be read: {error}") from None


def decode_message(body: bytes | memoryview) -> tuple[str, Any]:
    """Action and data of a message; FrameError as of `decode_body`."""
    try:
        return _decode_message(body)
    except (msgspec.DecodeError, ValueError, RecursionError, MemoryError) as error:
        raise FrameError(f"a message that cannot be read: {error}") from None


class FrameReader:
    """Turns a stream's chunks into frames, however they are cut; with `runs`, messages that go the same way into one.

    Lengths, kinds and targets are checked before a body is waited for; what is no frame raises FrameError, after
    which the reader must not be fed again.
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES, *, runs: bool = False) -> None:
        self.runs = runs
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._wanted = 0  # bytes of `_rest` before there is anything new to see in it

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that `chunk` completes."""
        if not self._rest:
            frames, used = self._take(chunk)
            self._rest += memoryview(chunk)[used:]
            return frames
        self._rest += chunk
        if len(self._rest) < self._wanted:
            return []
        frames, used = self._take(self._rest)
        del self._rest[:used]
        return frames

    def _take(self, data: bytes | bytearray) -> tuple[list[Frame], int]:
        """The complete frames at the head of `data`, and how many bytes they take."""
        frames: list[Frame] = []
        offset, end = 0, len(data)
        self._wanted = 0
        with memoryview(data) as view:
            while end - offset >= HEADER.size:
                header = HEADER.unpack_from(data, offset)
                stop = offset + HEADER.size + header[0]
                self._check(header[0], header[1], header[2])
                if stop > end:
                    self._wanted = stop - offset
                    break
                count = 1
                if self.runs and header[1] == Kind.MESSAGE and header[2] in _RUNS:
                    count, stop = self._run(data, offset, stop, end)
                _, kind, target, _, target_id, source, request_id = header
                raw = bytes(view[offset:stop])
                frames.append(Frame(_KINDS[kind], _TARGETS[target], target_id, source, request_id, raw, count))
                offset = stop
        return frames, offset

    def _run(self, data: bytes | bytearray, first: int, offset: int, end: int) -> tuple[int, int]:
        """How many frames from `first` on differ in nothing but their bodies, and where they end."""
        same = data[first + _LENGTH.size : first + HEADER.size]
        size, unpack = HEADER.size, _LENGTH.unpack_from
        count = 1
        while offset + size <= end and data[offset + 4 : offset + size] == same:
            length = unpack(data, offset)[0]
            if length > self._max_bytes or offset + size + length > end:
                break  # the caller judges it
            offset += size + length
            count += 1
        return count, offset

    def _check(self, length: int, kind: int, target: int) -> None:
        if length > self._max_bytes:
            raise FrameError(f"a frame of {length} bytes, the limit is {self._max_bytes}")
        if kind not in _KINDS or target not in _TARGETS:
            raise FrameError(f"no frame has kind {kind} and target {target}")
