"""What a user sees on a terminal of 80 columns and in a pipe: the first screen, the tables, a failed boot."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.cluster.harness import AGENT, HELLO, Launched, Project
from tests.waiting import DEADLINE, wait_until

ROWS, COLUMNS = 24, 80
TASK = AGENT + (
    "@agent.schedule(interval='1h', immediate=True)\n"
    "async def nightly_cleanup_of_sessions(): raise ValueError('the upstream answered 503 after three tries')\n"
)


class Screen:
    """A terminal of 80 columns: commands write to it, and `text` is what they wrote."""

    def __init__(self, project: Project) -> None:
        self._ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.set_blocking(self._ours, False)
        self._project = project
        self._processes: list[subprocess.Popen[bytes]] = []
        self._written = b""

    def run(self, *arguments: str, **environ: str) -> "subprocess.Popen[bytes]":
        """An `eggcluster` command whose output is this terminal."""
        process = subprocess.Popen(
            [sys.executable, "-m", "eggcluster", *arguments],
            cwd=self._project.folder,
            env={**self._project.environ, "TERM": "xterm-256color", **environ},
            stdin=subprocess.DEVNULL,
            stdout=self._theirs,
            stderr=self._theirs,
        )
        self._processes.append(process)
        return process

    def shows(self, *arguments: str, **environ: str) -> str:
        """What a command writes, once it has ended well."""
        before = len(self.text)
        process = self.run(*arguments, **environ)
        assert wait_until(lambda: (self.text, process.poll())[1] is not None, "it has ended")
        assert process.returncode == 0, self.text
        return self.text[before:]

    @property
    def text(self) -> str:
        with suppress(BlockingIOError, OSError):
            while piece := os.read(self._ours, 65536):
                self._written += piece
        return self._written.decode(errors="replace").replace("\r\n", "\n")

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
                process.wait(DEADLINE)
        for fd in (self._ours, self._theirs):
            os.close(fd)


@pytest.fixture
def screen(project: Project) -> Iterator[Screen]:
    screen = Screen(project)
    yield screen
    screen.close()


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[\d+m", "", text).splitlines()


@pytest.mark.parametrize("environ", [{"NO_COLOR": ""}, {"NO_COLOR": "1"}], ids=["colours", "NO_COLOR"])
def test_the_first_screen_ends_with_where_and_how_to_stop_and_how_to_look(
    project: Project, screen: Screen, environ: dict[str, str]
) -> None:
    project.write(app=HELLO, agent=AGENT)
    process = screen.run("start", "--port", "0", "--workers", "2", "--name", "shop", **environ)
    wait_until(lambda: "look at it with" in screen.text, "the first screen")
    lines = plain(screen.text)
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO    master: shop started on http://127.0.0.1:\d+ \(.+s\)", lines[-3])
    assert lines[-2].endswith("master: stop it with Ctrl-C")
    assert lines[-1].endswith("master: look at it with `eggcluster status --name shop`")
    assert max(map(len, lines)) <= COLUMNS
    assert ("\x1b" in screen.text) is (environ["NO_COLOR"] == "")
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 0


def test_the_tables_hide_nothing_at_80_columns(project: Project, screen: Screen) -> None:
    launched = project.write(app=HELLO, agent=TASK).start("--workers", "2")
    launched.allows_traceback = True
    launched.wait_ready()
    first = launched.workers()[1]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: launched.workers().get(1) not in (None, first), "it is replaced")
    shown = plain(screen.shows("status"))
    assert max(map(len, shown)) <= COLUMNS
    row = next(index for index, line in enumerate(shown) if line.startswith("app#1 "))
    assert shown[row].split()[:4] == ["app#1", str(launched.workers()[1]), "2", "listening"]
    assert shown[row + 1] == "    last death: SIGKILL (1 death in the last minute)"
    wait_until(lambda: "failed" in launched.command("schedules").stdout, "it has run")
    shown = plain(screen.shows("schedules"))
    assert max(map(len, shown)) <= COLUMNS
    assert shown[1].startswith("nightly_cleanup_of_sessions  every 1h")
    assert " failed" in shown[1]
    assert "ValueError: the upstream answered 503" in " ".join(" ".join(shown).split())


def test_in_a_pipe_each_worker_is_one_plain_line(hello: Launched) -> None:
    answer = hello.command("status").stdout
    assert "\x1b" not in answer
    assert [line.split()[0] for line in answer.splitlines()[1:]] == ["who", "master", "agent", "app#1", "app#2"]


def test_alone_it_says_what_can_be_done_with_the_cluster_of_the_directory(hello: Launched) -> None:
    answer = hello.command()
    assert answer.returncode == 0
    assert f'The cluster "{hello.folder.name}" runs here (pid {hello.pid}):' in answer.stdout


def test_a_failed_boot_is_one_error_without_those_of_the_siblings(project: Project) -> None:
    launched = project.write(app="import a_module_that_is_not_there\napp = None\n").start("--workers", "4")
    launched.allows_traceback = True
    assert launched.wait_exit() == 1
    errors = [line for line in launched.log.splitlines() if " ERROR " in line]
    assert len(errors) == 1, launched.log
    assert errors[0].endswith("could not start: ModuleNotFoundError: No module named 'a_module_that_is_not_there'")


def test_a_daemons_screen_says_how_to_stop_and_how_to_look(project: Project, screen: Screen) -> None:
    project.write(app=HELLO)
    said = screen.shows("start", "--port", "0", "--workers", "1", "--name", "shop", "--daemon").splitlines()
    assert said[0].startswith("shop started on http://127.0.0.1:")
    assert said[-2:] == [
        "stop it with `eggcluster stop --name shop`",
        "look at it with `eggcluster status --name shop`",
    ]
