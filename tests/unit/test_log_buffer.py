"""Waiting log lines: in order, bounded, and with a notice of each gap."""

from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.log_buffer import LogBuffer


def notice(lost: int) -> bytes:
    return b"lost %d\n" % lost


def drained(buffer: LogBuffer, size: int = 4096) -> bytes:
    found = b""
    while head := buffer.head(size):
        buffer.remove(len(head))
        found += head
    return found


def test_lines_come_out_in_their_order() -> None:
    buffer = LogBuffer(100, notice)
    for line in (b"one\n", b"two\n", b"three\n"):
        buffer.put(line)
    assert drained(buffer) == b"one\ntwo\nthree\n"
    assert buffer.size == 0


def test_a_head_is_whole_lines_or_one_that_is_longer_than_allowed() -> None:
    buffer = LogBuffer(100, notice)
    for line in (b"aaaa\n", b"bbbb\n", b"c" * 20):
        buffer.put(line)
    assert buffer.head(12) == b"aaaa\nbbbb\n"
    assert buffer.head(3) == b"aaaa\n"
    buffer.remove(10)
    assert buffer.head(12) == b"c" * 20


def test_a_line_written_in_part_continues_where_it_stopped() -> None:
    buffer = LogBuffer(100, notice)
    buffer.put(b"first\n")
    buffer.put(b"second\n")
    buffer.remove(8)
    assert buffer.head(100) == b"cond\n"
    assert buffer.size == 5


def test_the_notice_waits_until_half_of_the_buffer_is_free() -> None:
    buffer = LogBuffer(20, notice)
    for line in (b"aaaa\n", b"bbbb\n", b"cccc\n", b"dddd\n", b"lost\n"):
        buffer.put(line)
    buffer.remove(5)
    buffer.put(b"lost too\n")
    assert buffer.lost == 2
    buffer.remove(5)
    buffer.put(b"e\n")
    assert drained(buffer) == b"cccc\ndddd\nlost 2\ne\n"


def test_dropped_lines_count_as_lost() -> None:
    buffer = LogBuffer(100, notice)
    buffer.put(b"one\n")
    buffer.put(b"two\n")
    buffer.drop_all()
    assert (buffer.size, buffer.lost) == (0, 2)
    buffer.put(b"three\n")
    assert drained(buffer) == b"lost 2\nthree\n"


@given(st.lists(st.one_of(st.integers(1, 30).map(lambda n: b"x" * n + b"\n"), st.integers(1, 40)), max_size=60))
def test_every_line_is_written_waits_or_is_counted(steps: list[bytes | int]) -> None:
    told = []

    def tell(lost: int) -> bytes:
        told.append(lost)
        return b"!\n"

    buffer, put, out = LogBuffer(64, tell), 0, b""
    for step in steps:
        if isinstance(step, bytes):
            buffer.put(step)
            put += 1
        else:
            head = buffer.head(16)[:step]
            buffer.remove(len(head))
            out += head
        assert 0 <= buffer.size <= 64 + 2
    out += drained(buffer)
    assert out.count(b"x\n") + sum(told) + buffer.lost == put
