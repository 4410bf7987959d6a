"""The terminal in which a cluster was started: its keys, and its end."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cluster.harness import Launched, Project, family
from tests.cluster.remote import connect, marks, obedient
from tests.waiting import DEADLINE, wait_until

IN_TERMINAL = str(Path(__file__).with_name("in_terminal.py"))
# An interactive bash, which gives each job a process group of its own, and tells its jobs of its end.
FOREGROUND = ("bash", "--norc", "-ic", '"$@"; true', "bash")
BACKGROUND = ("bash", "--norc", "-ic", '"$@" & wait', "bash")
UNTIL_ENTER = ("bash", "--norc", "-c", 'set -m; "$@" & read', "bash")  # and this one does not signal its jobs
GONE = "the terminal has gone, closing"


class Terminal:
    """`keyboard` is its other end: what is written there is typed, and without it the terminal has gone."""

    def __init__(self, project: Project) -> None:
        self.keyboard, self._screen = pty.openpty()
        self.name = os.ttyname(self._screen)
        self._project = project

    def start(self, *shell: str) -> Launched:
        """A cluster in it, with no shell, or as the job of one."""
        launcher = (sys.executable, IN_TERMINAL, self.name, *shell)
        return obedient(self._project).start("--workers", "2", launcher=launcher).wait_ready()

    def close(self) -> None:
        """As one closes its window; may be called again."""
        for fd in (self.keyboard, self._screen):
            with suppress(OSError):
                os.close(fd)


@pytest.fixture
def terminal(project: Project) -> Iterator[Terminal]:
    terminal = Terminal(project)
    yield terminal
    terminal.close()


def master_of(cluster: Launched) -> int:
    status = cluster.status()
    assert status is not None
    return int(status["pid"])


def ended(master: int) -> None:
    wait_until(lambda: not psutil.pid_exists(master), "the master has ended")
    wait_until(lambda: not family(master), "nothing is left", 5)


# -- its keys ------------------------------------------------------------------------------------------------------


def test_ctrl_c_reaches_the_master_alone_and_closes_in_order(project: Project, terminal: Terminal) -> None:
    cluster = terminal.start()
    os.write(terminal.keyboard, b"\x03")
    assert cluster.wait_exit() == 0
    assert len(marks(project, "closing")) == 5
    assert "receive signal SIGINT, closing" in cluster.log


def test_a_cluster_that_is_put_into_the_background_serves_on_and_comes_back(terminal: Terminal) -> None:
    """Ctrl-Z, and `fg`: the workers have sessions of their own, and serve while their master stands still."""
    cluster = terminal.start()
    address, before = cluster.address, cluster.workers()
    master = psutil.Process(cluster.pid)
    cluster.signal(signal.SIGSTOP)  # SIGTSTP does nothing to an orphaned process group, which a test's is
    wait_until(lambda: master.status() == psutil.STATUS_STOPPED, "the master is stopped")
    assert httpx.get(address).status_code == 200
    cluster.signal(signal.SIGCONT)
    assert cluster.workers() == before
    assert cluster.close() == 0


STANDING = """
async def stand():
    import pdb
    pdb.set_trace()
    remote.mark("went", "on")

remote.stand = stand
"""


@pytest.mark.parametrize("stop", ["breakpoint()", "await stand()"])
def test_ctrl_c_at_a_debuggers_prompt_closes_in_order(project: Project, terminal: Terminal, stop: str) -> None:
    """The prompt is a read in the worker's main thread, which its event loop waits for."""
    obedient(project, app=STANDING)
    launcher = (sys.executable, IN_TERMINAL, terminal.name)
    arguments = ("--workers", "1", "--app-close-timeout", "60000")
    cluster = project.start(*arguments, launcher=launcher).wait_ready()
    cluster.allows_traceback = True  # the request ends with BdbQuit, as after `quit`
    with connect(cluster, 1) as connection:
        connection.send(f"mark('busy'); {stop}")
        wait_until(lambda: "(Pdb)" in cluster.log, "it stands at the prompt")
        os.write(terminal.keyboard, b"\x03")
        assert cluster.wait_exit(20) == 0
    assert {line[1] for line in marks(project, "closing")} == {"lifespan", "on_close"}
    assert not marks(project, "went")
    assert "close timeout" not in cluster.log


PROGRAM = """
import asyncio, sys
from eggcluster import Cluster

async def main():
    async with Cluster("app:app", workers=2, port=0) as cluster:
        print("cluster", cluster.pid, file=sys.stderr, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_ctrl_c_in_a_program_with_a_cluster_is_the_programs_and_closes_it_in_order(
    project: Project, terminal: Terminal
) -> None:
    """Sent to both, it would be the first of two signals to the master: leaving the block sends the other one."""
    obedient(project).write(program=PROGRAM)
    said = project.folder / "said"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, IN_TERMINAL, terminal.name, sys.executable, "program.py"],
            cwd=project.folder,
            env=project.environ,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: b"cluster " in said.read_bytes(), "it runs")
        master = int(said.read_text().partition("cluster ")[2].split()[0])
        os.write(terminal.keyboard, b"\x03")
        assert process.wait(DEADLINE) == -signal.SIGINT
        assert "exiting with code:0" in said.read_text()
        assert "again" not in said.read_text()
        assert len(marks(project, "closing")) == 5
        ended(master)
    finally:
        process.kill()
        process.wait()


# -- its end -------------------------------------------------------------------------------------------------------


def test_a_cluster_whose_terminal_is_closed_closes_in_order(project: Project, terminal: Terminal) -> None:
    cluster = terminal.start()
    terminal.close()
    assert cluster.wait_exit() == 0
    assert len(marks(project, "closing")) == 5
    assert GONE in cluster.log


@pytest.mark.parametrize("shell", [FOREGROUND, BACKGROUND], ids=["foreground", "background"])
def test_a_shells_job_closes_with_the_terminal_however_often_it_is_told(
    project: Project, terminal: Terminal, shell: tuple[str, ...]
) -> None:
    """The shell tells its jobs when it is told, and the kernel tells the one in the foreground when the shell ends."""
    cluster = terminal.start(*shell)
    master = master_of(cluster)
    terminal.close()
    ended(master)
    assert GONE in cluster.log
    assert "closing is cut short" not in cluster.log
    assert len(marks(project, "closing")) == 5


def test_a_cluster_that_was_put_to_sleep_closes_with_its_terminal(project: Project, terminal: Terminal) -> None:
    cluster = terminal.start()
    cluster.signal(signal.SIGSTOP)
    terminal.close()  # the kernel sends SIGCONT with it
    assert cluster.wait_exit() == 0
    assert len(marks(project, "closing")) == 5


def test_sighup_is_a_reload_as_long_as_the_terminal_is_there(terminal: Terminal) -> None:
    cluster = terminal.start()
    before = cluster.workers()
    cluster.signal(signal.SIGHUP)
    wait_until(lambda: len(cluster.workers()) == 2 and not set(before.values()) & set(cluster.workers().values()))
    assert GONE not in cluster.log
    assert cluster.close() == 0


def test_a_shells_own_kill_is_a_reload_too(terminal: Terminal) -> None:
    shell = ("bash", "--norc", "-ic", '"$@" & read; kill -HUP %1; wait', "bash")
    cluster = terminal.start(*shell)
    before, master = cluster.workers(), master_of(cluster)
    os.write(terminal.keyboard, b"\n")
    wait_until(lambda: len(cluster.workers()) == 2 and not set(before.values()) & set(cluster.workers().values()))
    terminal.close()
    ended(master)


def test_a_cluster_that_has_outlived_its_terminal_is_reloaded_by_sighup(terminal: Terminal) -> None:
    """A job in the background that got no signal at the end, as after most logouts: it was to stay."""
    cluster = terminal.start(*UNTIL_ENTER)
    before, master = cluster.workers(), master_of(cluster)
    os.write(terminal.keyboard, b"\n")
    cluster.wait_exit()
    terminal.close()
    os.kill(master, signal.SIGHUP)
    wait_until(lambda: len(cluster.workers()) == 2 and not set(before.values()) & set(cluster.workers().values()))
    os.kill(master, signal.SIGTERM)
    ended(master)
    assert GONE not in cluster.log
