"""The beginning of a MessagePack value as text: the same as the value's repr, as far as it goes."""

import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.errors import FrameError
from eggcluster.master.relay.preview import preview, preview_message
from eggcluster.packing import Ext, decode, encode

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=20),
    max_leaves=60,
)


@given(values, st.integers(0, 500))
def test_it_is_the_repr_and_its_beginning_if_it_is_cut(value: Any, limit: int) -> None:
    whole, cut = repr(value), preview(memoryview(encode(value)), limit)
    if len(whole) <= limit:
        assert cut == whole
    else:
        assert cut.endswith("...")
        assert len(cut) <= limit + 3
        assert whole.startswith(cut[:-4])


@given(st.binary(max_size=200))
def test_any_bytes_give_a_text(data: bytes) -> None:
    assert isinstance(preview(memoryview(data), 50), str)
    try:
        action, text = preview_message(memoryview(data), 50)
    except FrameError:
        return
    assert isinstance(action, str)
    assert isinstance(text(), str)


@pytest.mark.parametrize("size", [1, 40, 300, 70_000])
@pytest.mark.parametrize("kind", [list, dict, str, bytes])
def test_every_length_format_is_known(kind: Any, size: int) -> None:
    value = dict.fromkeys(range(size), 0) if kind is dict else kind("x" * size if kind is str else bytes(size))
    assert preview(memoryview(encode(value)), 10**7) == repr(value)


def test_an_extension_is_named_and_what_lies_too_deep_is_cut() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert preview(memoryview(encode([moment, Ext(5, b"abc"), 1])), 100) == f"[{moment!r}, <extension, 3 bytes>, 1]"
    assert preview(memoryview(b"\x91" * 5000 + b"\x01"), 10_000) == "[" * 32 + "..."


def test_of_a_large_message_only_the_beginning_is_copied() -> None:
    body = memoryview(encode(["note", {"blob": bytes(8_000_000), "numbers": [1] * 1_000_000}]))
    tracemalloc.start()
    action, data = preview_message(body, 2000)
    text = data()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert action == "note"
    assert text.startswith("{'blob': b'")
    assert len(text) == 2003
    assert peak < 100_000


def test_the_action_and_the_data_are_those_of_the_message() -> None:
    body = encode(["login", {"name": "x"}])
    action, data = preview_message(memoryview(body), 100)
    assert [action, data()] == ["login", repr(decode(body)[1])]
