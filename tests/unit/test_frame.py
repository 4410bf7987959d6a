"""Frames arrive however the stream is cut, and bad bytes raise nothing but FrameError."""

import contextlib
import itertools
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.errors import FrameError, MessageTooLarge, NotSerializable
from eggcluster.ipc.frame import HEADER, Frame, FrameReader, decode_body, encode_frame
from eggcluster.model.messages.message import FrameKind, Target

U32, U64 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
SCALARS = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | st.text()
DATA = st.recursive(
    SCALARS | st.binary(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
FRAMES = st.builds(
    encode_frame,
    st.sampled_from(FrameKind),
    st.sampled_from(Target),
    DATA,
    target_id=U64,
    source=U32,
    request_id=U32,
)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(place % (len(stream) + 1) for place in cuts)})
    return [stream[begin:end] for begin, end in itertools.pairwise(places)]


def read(chunks: list[bytes], max_bytes: int = 1 << 20) -> list[Frame]:
    reader = FrameReader(max_bytes)
    return [frame for chunk in chunks for frame in reader.feed(chunk)]


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_frames_cut_into_any_chunks_are_the_same_frames(frames: list[bytes], cuts: list[int]) -> None:
    assert [frame.raw for frame in read(cut(b"".join(frames), cuts))] == frames


@given(st.lists(FRAMES, max_size=3))
def test_byte_by_byte(frames: list[bytes]) -> None:
    assert [frame.raw for frame in read([bytes([byte]) for byte in b"".join(frames)])] == frames


@given(st.sampled_from(FrameKind), st.sampled_from(Target), DATA, U64, U32, U32)
def test_a_frame_has_the_fields_that_were_encoded(
    kind: FrameKind, target: Target, data: Any, target_id: int, source: int, request_id: int
) -> None:
    raw = encode_frame(kind, target, data, target_id=target_id, source=source, request_id=request_id)
    (frame,) = read([raw])
    assert (frame.kind, frame.target, frame.target_id) == (kind, target, target_id)
    assert (frame.source, frame.request_id) == (source, request_id)
    assert decode_body(frame.body) == data


@given(st.lists(st.binary(max_size=60), max_size=6), st.lists(FRAMES, max_size=2))
def test_no_bytes_raise_anything_but_frame_error(chunks: list[bytes], first: list[bytes]) -> None:
    with contextlib.suppress(FrameError):
        read([*first, *chunks], max_bytes=1000)


@given(st.binary(max_size=200))
def test_no_body_raises_anything_but_frame_error(body: bytes) -> None:
    for shape in (Any, str, tuple[str, Any], tuple[str, str, str], tuple[str, dict[str, Any]]):
        with contextlib.suppress(FrameError):
            decode_body(body, shape)


@pytest.mark.parametrize(
    "body", [b"\x91" * 100_000, b"\x81\xa0" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_a_body_that_is_deep_or_lies_about_its_size_is_a_frame_error(body: bytes) -> None:
    with pytest.raises(FrameError):
        decode_body(body)


def test_a_datetime_keeps_its_instant_and_a_tuple_arrives_as_a_list() -> None:
    moment = datetime(2026, 7, 1, 12, 30, 15, 123456, tzinfo=UTC)
    raw = encode_frame(FrameKind.MESSAGE, Target.ALL, {"at": moment, "pair": (1, 2)})
    assert decode_body(read([raw])[0].body) == {"at": moment, "pair": [1, 2]}


def header(length: int, kind: int = 1, target: int = 1) -> bytes:
    return HEADER.pack(length, kind, target, 0, 0, 0, 0)


def test_a_length_above_the_limit_is_refused_before_its_body_is_waited_for() -> None:
    with pytest.raises(FrameError, match="a frame has a body of 101 bytes; the limit is 100"):
        read([header(101)], max_bytes=100)
    assert read([header(100)], max_bytes=100) == []
    assert len(read([header(100), b"\xc0" * 100], max_bytes=100)) == 1


@pytest.mark.parametrize(("kind", "target"), [(0, 1), (10, 1), (255, 0), (1, 9), (1, 255)])
def test_a_kind_or_target_that_does_not_exist_is_refused(kind: int, target: int) -> None:
    with pytest.raises(FrameError, match=f"unknown frame kind {kind} or target {target}"):
        read([header(0, kind, target)])


def test_a_bad_frame_is_refused_as_soon_as_its_header_is_complete() -> None:
    with pytest.raises(FrameError):
        read([b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])


def test_an_incomplete_header_is_waited_for() -> None:
    raw = encode_frame(FrameKind.MESSAGE, Target.ALL, None)
    assert read([raw[: HEADER.size - 1]]) == []


@pytest.mark.parametrize("data", [object(), {1: object()}, 1 << 64, -(1 << 63) - 1, "\ud800", [lambda: 1]])
def test_data_that_messagepack_cannot_carry_raises_in_the_sender(data: Any) -> None:
    with pytest.raises(NotSerializable, match="MessagePack cannot carry this"):
        encode_frame(FrameKind.MESSAGE, Target.ALL, data)


def test_data_that_contains_itself_raises_in_the_sender() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotSerializable):
        encode_frame(FrameKind.MESSAGE, Target.ALL, loop)


def test_a_message_that_is_too_large_raises_in_the_sender() -> None:
    fits = encode_frame(FrameKind.MESSAGE, Target.ALL, b"x" * 98, max_bytes=100)
    assert len(fits) == HEADER.size + 100
    with pytest.raises(MessageTooLarge, match="the message has 101 bytes, max_message_bytes is 100"):
        encode_frame(FrameKind.MESSAGE, Target.ALL, b"x" * 99, max_bytes=100)


def test_the_reader_keeps_no_memory_of_read_frames() -> None:
    reader = FrameReader()
    raw = encode_frame(FrameKind.MESSAGE, Target.ALL, b"x" * 1000)
    for _ in range(50):
        assert len(reader.feed(raw[:700])) == 0
        assert len(reader.feed(raw[700:] + raw[:10])) == 1
        assert len(reader.feed(raw[10:])) == 1
    assert reader._used == 0


def seconds_to_read(size: int) -> float:
    """The CPU time of one large frame that comes in chunks of 1 KiB, the best of three."""
    raw = encode_frame(FrameKind.MESSAGE, Target.ALL, b"x" * size, max_bytes=1 << 26)
    chunks = [raw[at : at + 1024] for at in range(0, len(raw), 1024)]
    best = float("inf")
    for _ in range(3):
        began = time.thread_time()
        assert len(read(chunks, 1 << 26)) == 1
        best = min(best, time.thread_time() - began)
    return best


def test_a_large_frame_in_many_chunks_costs_in_proportion_to_its_size() -> None:
    """Sixteen times the size: sixteen times the time where the cost is linear, 256 times where it is quadratic."""
    assert seconds_to_read(16 << 20) < 80 * seconds_to_read(1 << 20)
