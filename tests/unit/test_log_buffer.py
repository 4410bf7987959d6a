"""What waits to be logged: in order, bounded, and honest about its gaps."""

from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.log_buffer import LogBuffer


def notice(lost: int) -> bytes:
    return b"lost %d\n" % lost


def drained(backlog: LogBuffer, size: int = 4096) -> bytes:
    found = b""
    while head := backlog.head(size):
        backlog.remove(len(head))
        found += head
    return found


def test_lines_come_out_in_their_order() -> None:
    backlog = LogBuffer(100, notice)
    for line in (b"one\n", b"two\n", b"three\n"):
        backlog.put(line)
    assert drained(backlog) == b"one\ntwo\nthree\n"
    assert backlog.size == 0


def test_a_head_is_whole_lines_or_one_that_is_longer_than_allowed() -> None:
    backlog = LogBuffer(100, notice)
    for line in (b"aaaa\n", b"bbbb\n", b"c" * 20):
        backlog.put(line)
    assert backlog.head(12) == b"aaaa\nbbbb\n"
    assert backlog.head(3) == b"aaaa\n"
    backlog.remove(10)
    assert backlog.head(12) == b"c" * 20


def test_what_was_written_in_part_goes_on_where_it_stopped() -> None:
    backlog = LogBuffer(100, notice)
    backlog.put(b"first\n")
    backlog.put(b"second\n")
    backlog.remove(8)
    assert backlog.head(100) == b"cond\n"
    assert backlog.size == 5


def test_the_gap_is_told_only_when_there_is_room_again_for_half_of_it() -> None:
    backlog = LogBuffer(20, notice)
    for line in (b"aaaa\n", b"bbbb\n", b"cccc\n", b"dddd\n", b"lost\n"):
        backlog.put(line)
    backlog.remove(5)
    backlog.put(b"lost too\n")
    assert backlog.lost == 2
    backlog.remove(5)
    backlog.put(b"e\n")
    assert drained(backlog) == b"cccc\ndddd\nlost 2\ne\n"


def test_all_that_nobody_will_read_counts_as_lost() -> None:
    backlog = LogBuffer(100, notice)
    backlog.put(b"one\n")
    backlog.put(b"two\n")
    backlog.drop_all()
    assert (backlog.size, backlog.lost) == (0, 2)
    backlog.put(b"three\n")
    assert drained(backlog) == b"lost 2\nthree\n"


@given(st.lists(st.one_of(st.integers(1, 30).map(lambda n: b"x" * n + b"\n"), st.integers(1, 40)), max_size=60))
def test_every_line_is_written_waits_or_is_counted(steps: list[bytes | int]) -> None:
    told = []

    def tell(lost: int) -> bytes:
        told.append(lost)
        return b"!\n"

    backlog, put, out = LogBuffer(64, tell), 0, b""
    for step in steps:
        if isinstance(step, bytes):
            backlog.put(step)
            put += 1
        else:
            head = backlog.head(16)[:step]
            backlog.remove(len(head))
            out += head
        assert 0 <= backlog.size <= 64 + 2
    out += drained(backlog)
    assert out.count(b"x\n") + sum(told) + backlog.lost == put
