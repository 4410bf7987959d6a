"""The key in a head as it came is the one that is found after parsing."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from eggcluster.http.head import Header
from eggcluster.http.parsers import BadRequest, CallbackFailed, new_parser
from eggcluster.model.steering.key_source import MAX_KEY_BYTES, key_sources

SOURCES = key_sources(["cookie:sid", "header:X-Key", "query:room", "cookie"])
VALUES = st.sampled_from(
    [
        b"",
        b"a",
        b" a \t",
        b"sid=1",
        b'b=2; sid="x y"; sid=3',
        b"sid =1;;=",
        b"xsid=1",
        b"egg_slot=1.2.f; sid",
        b"room=7",
    ]
)
FIELDS = st.tuples(
    st.sampled_from([b"Cookie", b"cookie", b"X-KEY", b"x-key", b"XX-Key", b"x-key-2", b"Host"]),
    st.one_of(VALUES, st.text('sid=; \t"x', max_size=8).map(str.encode)),
)
TARGETS = st.sampled_from(
    [
        b"/",
        b"/?room=1",
        b"/?rooms=1&room=%20+a",
        b"/room=1?x",
        b"*",
        b"http://h/?room=2",
        b"/?room=x?room=y",
        b"/?room=",
    ]
)


class Collector:
    """Takes a head as the engine's reader does."""

    def __init__(self, raw: bytes) -> None:
        self.target = b""
        self.headers: list[Header] = []
        self.is_whole = False
        new_parser(self).feed_data(raw)

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        self.is_whole = True

    def on_body(self, data: bytes) -> None:
        raise AssertionError("it has a body")

    def on_message_complete(self) -> None:
        pass


@settings(max_examples=500, deadline=None)
@given(
    TARGETS,
    st.lists(FIELDS, max_size=5),
    st.sampled_from([b"", b"\r\n", b"\n"]),
    st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\n "]),
    st.sampled_from([b" ", b"  ", b"\t"]),
)
@example(b"/?room=" + b"x" * MAX_KEY_BYTES, [(b"X-Key", b"x" * (MAX_KEY_BYTES + 1))], b"", b"\r\n", b" ")
def test_it_is_the_same(target: bytes, fields: list[Header], before: bytes, end: bytes, blank: bytes) -> None:
    lines = [blank.join([b"GET", target, b"HTTP/1.1"]), *(name + b":" + value for name, value in fields)]
    raw = before + end.join(lines) + b"\r\n\r\n"
    try:
        head = Collector(raw)
    except (BadRequest, CallbackFailed):  # no worker takes it
        return
    assert head.is_whole
    for source in SOURCES:
        assert source.key_in(raw, raw.lower()) == source.key_of(head.target, head.headers)
