"""Standard error that is not read, or has no reader any more: requests, guard and exit go on."""

import fcntl
import os
import pty
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.cluster.harness import AGENT, HELLO, Launched, Project
from tests.waiting import wait_until

LOUD = """
@app.on_start
def shout():
    for number in range(1000):
        app.logger.info("shout %d " + "x" * 90, number)
"""

# What a shell's `2>&N N>&-` does; but N may have two digits.
REDIRECT = """
import os, sys
os.dup2(int(sys.argv[1]), 2)
os.close(int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Stderr:
    """Standard error of a cluster, with this test at its other end."""

    def __init__(self, writing: int, reading: int) -> None:
        self.writing, self.reading = writing, reading

    def fill(self) -> None:
        """Write until it takes no more."""
        os.set_blocking(self.writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self.writing, b"filling\n")
        os.set_blocking(self.writing, True)

    def read_along(self) -> list[bytes]:
        """Read it from now on, to its end; gives the list into which the pieces go."""
        found: list[bytes] = []
        os.close(self.writing)
        self.writing = -1
        threading.Thread(target=self._read, args=(found,), daemon=True).start()
        return found

    def _read(self, found: list[bytes]) -> None:
        with suppress(OSError):  # EIO: so ends a terminal
            while part := os.read(self.reading, 65536):
                found.append(part)

    def close(self) -> None:
        for fd in (self.writing, self.reading):
            with suppress(OSError):
                os.close(fd)


def _pipe() -> Stderr:
    reading, writing = os.pipe()
    return Stderr(writing, reading)


def _socket() -> Stderr:
    """As systemd's journal has it."""
    writing, reading = socket.socketpair()
    return Stderr(writing.detach(), reading.detach())


def _terminal() -> Stderr:
    reading, writing = pty.openpty()
    return Stderr(writing, reading)


@pytest.fixture(params=[_pipe, _socket, _terminal], ids=["pipe", "socket", "terminal"])
def stderr(request: pytest.FixtureRequest) -> Iterator[Stderr]:
    make: Callable[[], Stderr] = request.param
    stderr = make()
    yield stderr
    stderr.close()


def start(project: Project, stderr: int, *arguments: str, app: str = HELLO) -> Launched:
    redirect = (sys.executable, "-c", REDIRECT, str(stderr))
    project.write(app=app, agent=AGENT)
    return project.start("--workers", "2", "--access-log", *arguments, fds=[stderr], launcher=redirect).wait_ready()


def assert_guarded(cluster: Launched) -> None:
    """It answers, and replaces a worker that is killed."""
    for _ in range(20):
        assert cluster.get().status_code == 200
    killed = cluster.workers()[1]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: cluster.workers().get(1) not in (None, killed), "it is replaced")
    assert cluster.get().status_code == 200


@pytest.mark.parametrize("stderr", [_pipe, _socket], ids=["pipe", "socket"], indirect=True)
def test_a_full_standard_error_without_a_reader_stops_nothing(project: Project, stderr: Stderr) -> None:
    stderr.fill()
    cluster = start(project, stderr.writing, app=HELLO + LOUD)
    assert_guarded(cluster)
    assert not fcntl.fcntl(stderr.writing, fcntl.F_GETFL) & os.O_NONBLOCK
    assert cluster.close() == 0


def test_a_reader_that_reads_again_finds_every_line(project: Project, stderr: Stderr) -> None:
    stderr.fill()
    cluster = start(project, stderr.writing, app=HELLO + LOUD)
    os.kill(cluster.workers()[1], signal.SIGKILL)
    wait_until(lambda: len(cluster.workers()) == 2, "it is replaced")
    log = stderr.read_along()
    wait_until(lambda: b"".join(log).count(b"shout 999 ") == 2, "what the two that live shouted")
    assert cluster.close() == 0
    wait_until(lambda: b"close done, exiting with code:0" in b"".join(log), "the last words")
    assert b"signal: SIGKILL, state: listening" in b"".join(log)


def test_a_reader_that_leaves_stops_nothing(project: Project, stderr: Stderr) -> None:
    cluster = start(project, stderr.writing)
    stderr.close()
    assert_guarded(cluster)
    assert cluster.command("reload").returncode == 0
    assert cluster.close() == 0


def test_workers_of_a_killed_master_end_although_nothing_reads_their_log(project: Project) -> None:
    stderr = _pipe()
    stderr.fill()
    cluster = start(project, stderr.writing)
    cluster.signal(signal.SIGKILL)
    wait_until(lambda: not cluster.family(), "no process is left", 3)
    stderr.close()


def test_a_full_disk_stops_nothing(project: Project) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    cluster = start(project, full)
    assert_guarded(cluster)
    assert cluster.close() == 0
    os.close(full)
