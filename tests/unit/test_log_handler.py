"""The log handler with every kind of standard error: not read, closed, a full disk."""

import asyncio
import fcntl
import logging
import os
import pty
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from eggcluster.kernel.nonblocking_output import NonblockingOutput
from eggcluster.log_handler import LogHandler
from tests.waiting import wait_until

End = tuple[int, int]  # where the log is written, where it is read


class Log:
    """A logger of its own with the handler under test, at `fd`."""

    def __init__(self, fd: int, max_bytes: int = 1024 * 1024) -> None:
        self.output = NonblockingOutput(fd)
        self.handler = LogHandler(self.output, max_bytes)
        self.handler.setFormatter(logging.Formatter("%(message)s"))
        self.logger = logging.Logger("test")
        self.logger.addHandler(self.handler)

    def say(self, *lines: str) -> None:
        for line in lines:
            self.logger.info(line)


@pytest.fixture
def keep() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _pipe(keep: ExitStack) -> End:
    reading, writing = os.pipe()
    keep.callback(os.close, reading)
    keep.callback(os.close, writing)
    return writing, reading


def _socket(keep: ExitStack) -> End:
    writing, reading = socket.socketpair()
    keep.enter_context(writing)
    keep.enter_context(reading)
    return writing.fileno(), reading.fileno()


def _terminal(keep: ExitStack) -> End:
    reading, writing = pty.openpty()
    keep.callback(os.close, reading)
    keep.callback(os.close, writing)
    return writing, reading


@pytest.fixture(params=[_pipe, _socket, _terminal], ids=["pipe", "socket", "terminal"])
def end(request: pytest.FixtureRequest, keep: ExitStack) -> End:
    make: Callable[[ExitStack], End] = request.param
    return make(keep)


@pytest.fixture
def pipe(keep: ExitStack) -> End:
    return _pipe(keep)


def read_all(fd: int, until: bytes) -> bytes:
    """What can be read, up to a line that ends with `until`."""
    found = b""
    while not found.rstrip(b"\r\n").endswith(until):
        found += os.read(fd, 65536)
    return found.replace(b"\r\n", b"\n")


@contextmanager
def flushing(log: Log) -> Iterator[None]:
    """Within the block a thread tries again and again to write what waits."""
    done = threading.Event()

    def flush() -> None:
        while not done.wait(0.001):
            log.handler.flush()

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


async def read_along(fd: int, until: bytes) -> bytes:
    """As `read_all`, in a loop that goes on."""
    os.set_blocking(fd, False)
    found = b""
    while not found.endswith(until):
        with suppress(BlockingIOError):
            found += os.read(fd, 65536)
        await asyncio.sleep(0.005)
    return found


def test_a_line_is_written_at_once(end: End) -> None:
    Log(end[0]).say("hello")
    assert read_all(end[1], b"hello") == b"hello\n"


def test_logging_never_blocks_and_nothing_is_lost_below_the_bound(end: End) -> None:
    log = Log(end[0])
    lines = [f"{number} {'x' * 90}" for number in range(5000)]
    log.say(*lines)  # half a megabyte: more than any of the three takes
    log.say("the end")
    with flushing(log):
        assert read_all(end[1], b"the end").decode().splitlines() == [*lines, "the end"]


def test_the_shared_descriptor_keeps_its_mode(end: End) -> None:
    log = Log(end[0])
    log.say(*["x" * 1000] * 200)
    assert not fcntl.fcntl(end[0], fcntl.F_GETFL) & os.O_NONBLOCK


def test_lines_above_the_bound_are_counted_and_reported_in_their_place(pipe: End) -> None:
    log = Log(pipe[0], max_bytes=20_000)
    log.say(*[f"{number:04} {'x' * 94}" for number in range(2000)])
    os.read(pipe[1], 1 << 20)  # all that the pipe had
    log.handler.flush()
    log.say("it flows again")
    lines = read_all(pipe[1], b"it flows again").decode().splitlines()
    kept = [int(line.split()[0]) for line in lines[:-2]]
    assert kept == list(range(kept[0], kept[-1] + 1))
    assert lines[-2] == f"lost {2000 - kept[-1] - 1} log lines: standard error was not read"


def test_the_loop_tries_again_without_another_line(pipe: End) -> None:
    async def scenario() -> bytes:
        log = Log(pipe[0])
        log.handler.run_in(asyncio.get_running_loop())
        log.say(*["x" * 100] * 2000, "the last")
        return await read_along(pipe[1], b"the last\n")

    assert len(asyncio.run(asyncio.wait_for(scenario(), 20)).splitlines()) == 2001


def test_a_line_of_another_thread_is_tried_again_by_the_loop_as_well(pipe: End) -> None:
    async def scenario() -> None:
        log = Log(pipe[0])
        log.handler.run_in(asyncio.get_running_loop())
        await asyncio.to_thread(log.say, *["x" * 100] * 2000, "the last")
        await read_along(pipe[1], b"the last\n")

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_the_end_waits_for_a_slow_reader(pipe: End) -> None:
    log = Log(pipe[0])
    log.say(*["x" * 100] * 2000, "last words")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(read_all(pipe[1], b"last words")))
    threading.Timer(0.2, reader.start).start()
    log.handler.finish()
    wait_until(lambda: found, "all is read")
    assert len(found[0].splitlines()) == 2001


def test_the_end_does_not_wait_forever(end: End) -> None:
    log = Log(end[0])
    log.say(*["x" * 1000] * 800)
    began = time.monotonic()
    log.handler.finish()
    assert time.monotonic() - began < 5


def test_a_reader_that_has_gone_costs_nothing_but_the_lines() -> None:
    reading, writing = os.pipe()
    log = Log(writing)
    log.say(*["x" * 1000] * 100)
    os.close(reading)
    log.say("to nobody")
    log.handler.finish()
    assert log.handler._buffer.size == 0
    os.close(writing)


def test_a_pipe_without_a_reader_from_the_start_is_no_failure() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    Log(writing).say("to nobody")
    os.close(writing)


def test_a_full_disk_is_reported_when_it_has_room_again() -> None:
    full, pipe = os.open("/dev/full", os.O_WRONLY), os.pipe()
    log = Log(full, max_bytes=100)
    log.say("first", *["x" * 50] * 3)
    os.dup2(pipe[1], full)
    log.say("there is room again")
    lines = read_all(pipe[0], b"there is room again").decode().splitlines()
    assert lines == ["first", "x" * 50, "lost 2 log lines: standard error: No space left on device", lines[-1]]
    for fd in (full, *pipe):
        os.close(fd)


def test_an_output_that_cannot_be_reopened_is_written_only_when_ready(pipe: End) -> None:
    log = Log(pipe[0])
    log.output._own, log.output._guarded = None, True  # as after `su`: the pipe is another user's
    log.say(*["x" * 1000] * 200, "y" * 9000, "the end")
    with flushing(log):
        lines = read_all(pipe[1], b"the end").decode().splitlines()
    assert lines == [*["x" * 1000] * 200, "y" * 9000, "the end"]


def test_a_wrong_logging_call_is_one_line_with_its_place(pipe: End, capfd: pytest.CaptureFixture[str]) -> None:
    log = Log(pipe[0])
    log.logger.info("%d apples", "many")
    line = read_all(pipe[1], b"('many',)").decode()
    assert line.startswith(f"invalid logging call at {__file__}:")
    assert line.endswith("TypeError: %d format: a real number is required, not str: '%d apples' with ('many',)\n")
    assert not capfd.readouterr().err


def test_an_argument_whose_repr_raises_ends_nothing(pipe: End) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RecursionError

    Log(pipe[0]).logger.info("%s", Odd())
    assert b"invalid logging call" in read_all(pipe[1], b"RecursionError")


def test_an_argument_that_raises_hostile_text_is_one_line(pipe: End) -> None:
    class Odd:
        def __str__(self) -> str:
            raise ValueError("a\n\x1b[2Jb")

    Log(pipe[0]).logger.info("%s", Odd())
    assert rb"ValueError: a\n\x1b[2Jb: '%s' with" in os.read(pipe[1], 1000)


def test_odd_text_is_escaped(pipe: End) -> None:
    Log(pipe[0]).say("\ud800 é")
    assert os.read(pipe[1], 100) == "\\ud800 é\n".encode()
