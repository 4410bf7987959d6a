"""Frames: a fixed header and a MessagePack body. No I/O. Runs in the master, all workers and the parent.

    length u32 | kind u8 | target u8 | reserved u16 | target id u64 | source u32 | request id u32 | body

All numbers are little endian; the length is the body's. The header alone tells the master where a frame goes, so it
relays bodies without reading them.
"""

import struct
from collections.abc import Iterator
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Any

from eggcluster.errors import FrameError, MessageTooLarge, NotSerializable
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.packing import DecodeError, Decoder, Encoder, Struct

HEADER = struct.Struct("<IBBHQII")
HEADER_SIZE = HEADER.size
ROUTE = slice(4, 20)  # of a header: kind, target, target id and source; they alone decide where a frame goes
MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # of a body; as in docs/options.md

MAX_ACTION_BYTES = 200  # of an action in a log line

RequestKey = tuple[int, int]  # the requester's packed address, and its number for the request

MAX_SINGLE = 4 * 1024  # bytes of a frame that may take a short cut; copying a larger one costs more than the long way
READ_BYTES = 256 * 1024  # read at once; as in uvloop, and more than a Unix socket holds by default

_pack = HEADER.pack
_LENGTH = struct.Struct("<I")
_length_of = _LENGTH.unpack_from
_unpack_request_key = struct.Struct("<II").unpack_from
_unpack_reply_key = struct.Struct("<Q4xI").unpack_from
_MESSAGE = int(FrameKind.MESSAGE)
_KINDS = {int(kind): kind for kind in FrameKind}
_TARGETS = {int(target): target for target in Target}
# The master relays consecutive messages to the same receivers as one piece (a run). Messages to a random app worker
# are not joined, because each may go to another one, nor are messages to the master, which reads them.
_RUN_TARGETS = frozenset((Target.AGENT, Target.PARENT, Target.APPS, Target.ALL, Target.SLOT, Target.WORKER))

_encode = Encoder().encode
_decode_message = Decoder(tuple[str, Any]).decode
_decoders: "dict[Any, Decoder[Any]]" = {}  # one per type; making a decoder costs more than decoding


def read_limit(max_message_bytes: int) -> int:
    """Return the size in bytes of the largest body that a reader accepts.

    The option limits what applications send. The master's own messages, such as the status or the report of a failed
    boot, may exceed a small limit.
    """
    return max(max_message_bytes, MAX_MESSAGE_BYTES)


class Frame(Struct, frozen=True, gc=False):
    """One received frame, or a run of `count` messages with the same receivers. `raw` can be relayed as it is."""

    kind: FrameKind
    target: Target
    target_id: int
    source: int
    request_id: int
    raw: bytes | bytearray
    count: int = 1

    @property
    def request_key(self) -> RequestKey:
        """The key of a request or its cancellation."""
        return self.source, self.request_id

    @property
    def reply_key(self) -> RequestKey:
        """The key of the request that this frame answers."""
        return self.target_id, self.request_id

    @property
    def body(self) -> memoryview:
        """The body, not copied; of a run, all that follows the first header."""
        return memoryview(self.raw)[HEADER.size :]

    def without_first(self, count: int) -> "Frame":
        """Return the rest of a run, without its first `count` messages."""
        offset, unpack = 0, _LENGTH.unpack_from
        for _ in range(count):
            offset += HEADER.size + unpack(self.raw, offset)[0]
        raw = bytes(self.raw[offset:])
        return Frame(self.kind, self.target, self.target_id, self.source, self.request_id, raw, self.count - count)

    def bodies(self) -> Iterator[memoryview]:
        """Yield the bodies of a run in order."""
        view, offset, size, unpack = memoryview(self.raw), 0, HEADER.size, _LENGTH.unpack_from
        while offset < len(view):
            start = offset + size
            offset = start + unpack(view, offset)[0]
            yield view[start:offset]


def frame_of(raw: bytes) -> Frame:
    """Return the frame of its bytes, which were checked before."""
    _, kind, target, _, target_id, source, request_id = HEADER.unpack_from(raw)
    return Frame(_KINDS[kind], _TARGETS[target], target_id, source, request_id, raw)


def action_of(body: bytes | memoryview) -> str:
    """Return a message's action, without reading its data; "?" if the body is not a message."""
    head = bytes(body[:6])  # an array of two, then a string: a short one, or one with a length of 1, 2 or 4 bytes
    try:
        if head[0] != 0x92:
            return "?"
        width = {0xD9: 1, 0xDA: 2, 0xDB: 4}.get(head[1], 0)
        size = int.from_bytes(head[2 : 2 + width], "big") if width else head[1] - 0xA0
        return str(body[2 + width : 2 + width + max(0, min(size, MAX_ACTION_BYTES))], "utf-8", "replace") or "?"
    except IndexError:
        return "?"


def request_key_of(raw: bytes) -> RequestKey:
    """Return `Frame.request_key` from a frame's bytes."""
    return _unpack_request_key(raw, 16)


def reply_key_of(raw: bytes) -> RequestKey:
    """Return `Frame.reply_key` from a frame's bytes."""
    return _unpack_reply_key(raw, 8)


def encode_frame(
    kind: FrameKind,
    target: Target,
    content: Any,
    target_id: int = 0,
    source: int = 0,
    request_id: int = 0,
    max_bytes: int = MAX_MESSAGE_BYTES,
) -> bytes:
    """Return a frame's bytes. Raises NotSerializable or MessageTooLarge for content that cannot travel."""
    try:
        body = _encode(content)
    except (TypeError, OverflowError, ValueError, RecursionError) as error:
        raise NotSerializable(f"MessagePack cannot carry this: {error}") from None
    if len(body) > max_bytes:
        raise MessageTooLarge(f"the message has {len(body)} bytes, max_message_bytes is {max_bytes}")
    return _pack(len(body), kind, target, 0, target_id, source, request_id) + body


def decode_body(body: bytes | memoryview, type: Any = Any) -> Any:
    """Return a body's content as a `type`; FrameError if it is not MessagePack, or not of that type."""
    decoder = _decoders.get(type)
    if decoder is None:
        decoder = _decoders[type] = Decoder(type)
    try:
        return decoder.decode(body)
    except (DecodeError, ValueError, RecursionError, MemoryError) as error:
        raise FrameError(f"the body cannot be read: {error}") from None


def decode_message(body: bytes | memoryview) -> tuple[str, Any]:
    """Return the action and the data of a message's body; FrameError as in `decode_body`."""
    try:
        return _decode_message(body)
    except (DecodeError, ValueError, RecursionError, MemoryError) as error:
        raise FrameError(f"the message cannot be read: {error}") from None


class FrameReader:
    """Turns a stream's chunks into frames, however the stream is cut. With `runs`, consecutive messages to the same
    receivers become one frame.

    Feed it chunks, or read into it: put the next bytes into `room`, then tell `filled` how many came. Lengths, kinds
    and targets are checked before the reader waits for a body. Bytes that are not a frame raise FrameError; the reader
    must not be used after that.
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES, *, runs: bool = False) -> None:
        self.runs = runs
        self._max_bytes = max_bytes
        # Anonymous memory: pages that are never read into cost nothing. A bytearray's pages are zeroed, so each costs.
        self._small = mmap(-1, READ_BYTES, MAP_PRIVATE | MAP_ANONYMOUS)
        self._single_limit = min(MAX_SINGLE, max_bytes + HEADER_SIZE)
        self._data: mmap | bytearray = self._small  # or a large frame's own buffer
        self._view = memoryview(self._data)
        self._used = 0
        self.room = self._view  # where the next bytes of the stream go; never empty

    def feed(self, chunk: bytes) -> list[Frame]:
        """Return the frames that `chunk` completes."""
        frames: list[Frame] = []
        offset = 0
        while offset < len(chunk):
            room = self.room
            count = min(len(room), len(chunk) - offset)
            room[:count] = chunk[offset : offset + count]
            frames += self.filled(count)
            offset += count
        return frames

    @property
    def pending(self) -> bool:
        """Whether the reader holds a part of a frame."""
        return self._used > 0

    def is_single(self, chunk: bytes) -> bool:
        """Return whether `chunk` is one whole small frame, and no part of another one waits.

        Such a chunk, the usual one without a flood, need not be fed.
        """
        size = len(chunk)
        return (
            HEADER_SIZE <= size <= self._single_limit and not self._used and _length_of(chunk)[0] == size - HEADER_SIZE
        )

    def filled(self, count: int) -> list[Frame]:
        """Return the frames that are complete, now that `count` bytes have been put into `room`."""
        self._used += count
        if self._data is not self._small and self._used < len(self._data):
            self.room = self._view[self._used :]
            return []  # a large frame that is not complete yet
        frames, taken, wanted = self._take()
        self._keep_rest(taken, wanted)
        return frames

    def _keep_rest(self, taken: int, wanted: int) -> None:
        """Make room: move the unfinished frame to the buffer's head, or to a buffer as large as the frame."""
        rest = self._view[taken : self._used]
        if wanted > READ_BYTES:
            self._switch(bytearray(wanted), rest)
        elif self._data is not self._small:
            self._switch(self._small, rest)
        elif taken:
            self._view[: len(rest)] = rest
        self._used = len(rest)
        self.room = self._view[self._used :] if self._used else self._view

    def _switch(self, data: mmap | bytearray, rest: memoryview) -> None:
        view = memoryview(data)
        view[: len(rest)] = rest
        self._data, self._view = data, view

    def _take(self) -> tuple[list[Frame], int, int]:
        """Return the complete frames in the buffer, how many bytes they take, and how many the next one needs."""
        frames: list[Frame] = []
        data, view, offset, end, size = self._data, self._view, 0, self._used, HEADER.size
        while end - offset >= size:
            length, kind, target, _, target_id, source, request_id = HEADER.unpack_from(data, offset)
            if length > self._max_bytes or kind not in _KINDS or target not in _TARGETS:
                raise FrameError(self._describe_bad_header(length, kind, target))
            stop = offset + size + length
            if stop > end:
                return frames, offset, size + length
            count = 1
            if self.runs and kind == _MESSAGE and target in _RUN_TARGETS and end - stop >= size:
                count, stop = self._run(offset, stop, end)
            whole = stop - offset == len(data)  # then the large frame's own buffer is handed over as it is
            raw = data if whole and isinstance(data, bytearray) else bytes(view[offset:stop])
            frames.append(Frame(_KINDS[kind], _TARGETS[target], target_id, source, request_id, raw, count))
            offset = stop
        return frames, offset, 0

    def _describe_bad_header(self, length: int, kind: int, target: int) -> str:
        if length > self._max_bytes:
            return f"a frame has a body of {length} bytes; the limit is {self._max_bytes}"
        return f"unknown frame kind {kind} or target {target}"

    def _run(self, first: int, offset: int, end: int) -> tuple[int, int]:
        """Return how many frames from `first` on differ in nothing but their bodies, and where they end."""
        data, size, unpack = self._data, HEADER.size, _LENGTH.unpack_from
        same = data[first + _LENGTH.size : first + size]
        count = 1
        while offset + size <= end and data[offset + 4 : offset + size] == same:
            length = unpack(data, offset)[0]
            if length > self._max_bytes or offset + size + length > end:
                break  # the caller checks it
            offset += size + length
            count += 1
        return count, offset
