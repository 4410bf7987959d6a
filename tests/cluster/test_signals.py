"""Signals at every moment, also those that the parent blocked or ignored before."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from eggcluster.kernel.signal_actions import signal_name
from tests.cluster.harness import AGENT, HELLO, Launched, Project
from tests.cluster.remote import connect, marks, obedient
from tests.waiting import wait_until

# Until the test says "go on", which most never do.
SLOW_IMPORT = """
import os, time
open("importing", "w").close()
while not os.path.exists("go on"):
    time.sleep(0.02)
"""
SLOW_START = """
import asyncio, os

@{}.on_start
async def slow():
    open("importing", "w").close()
    while not os.path.exists("go on"):
        await asyncio.sleep(0.02)
"""
BOOTS = {
    "the agent imports": (HELLO, SLOW_IMPORT + AGENT),
    "the agent starts": (HELLO, AGENT + SLOW_START.format("agent")),
    "the workers import": (SLOW_IMPORT + HELLO, AGENT),
    "the workers start": (HELLO + SLOW_START.format("app"), AGENT),
}
# Blocks or ignores what it is told, then becomes the command behind it.
INHERITING = """
import os, signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    if sys.argv[1] == "block":
        signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    else:
        signal.signal(number, signal.SIG_IGN)
if sys.argv[1] == "ignore":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[2], sys.argv[2:])
"""
MASK = "return [int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, [])]"
CHILD_CODE = "return subprocess.run(['sh', '-c', 'exit 3']).returncode"


def start(project: Project, *arguments: str) -> Launched:
    return obedient(project).start("--workers", "2", *arguments).wait_ready()


# -- during the boot ---------------------------------------------------------------------------------------------


def booting(project: Project, case: str) -> Launched:
    app, agent = BOOTS[case]
    cluster = project.write(app=app, agent=agent).start("--workers", "1")
    wait_until((project.folder / "importing").exists, case)
    return cluster


@pytest.mark.parametrize("case", BOOTS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_boot_is_ended_by_a_signal_at_once(project: Project, case: str, number: signal.Signals) -> None:
    cluster = booting(project, case)
    cluster.signal(number)
    assert cluster.wait_exit(4) == 0
    assert "SIGKILL" not in cluster.log


@pytest.mark.parametrize("case", BOOTS)
def test_two_and_three_signals_are_no_worse_than_one(project: Project, case: str) -> None:
    cluster = booting(project, case)
    for _ in range(3):
        cluster.signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            cluster.process.wait(0.02)
    assert cluster.wait_exit(4) == 0


def test_sighup_during_the_boot_is_answered_in_the_log_and_changes_nothing(project: Project) -> None:
    cluster = booting(project, "the workers start")
    cluster.signal(signal.SIGHUP)
    cluster.wait_log("no reload: the cluster is starting the app workers; reload it when it serves")
    (project.folder / "go on").touch()
    cluster.wait_ready()
    assert set(cluster.workers()) == {1}
    assert cluster.close() == 0


# -- during a reload, and while closing ----------------------------------------------------------------------------


def test_a_signal_during_a_reload_closes(project: Project) -> None:
    cluster = start(project)
    project.write(app=SLOW_IMPORT + (project.folder / "app.py").read_text())
    cluster.signal(signal.SIGHUP)
    wait_until((project.folder / "importing").exists, "the new worker imports")
    cluster.signal(signal.SIGTERM)
    assert cluster.wait_exit(4) == 0


def test_a_reload_that_a_close_ends_says_that_it_is_closing(project: Project) -> None:
    cluster = start(project)
    project.write(app=SLOW_IMPORT + (project.folder / "app.py").read_text())
    command = [sys.executable, "-m", "eggcluster", "reload"]
    reload = subprocess.Popen(
        command, cwd=project.folder, env=project.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until((project.folder / "importing").exists, "the new worker imports")
    assert cluster.close() == 0
    out, err = reload.communicate(timeout=20)
    assert reload.returncode == 1
    assert err == "eggcluster: reload stopped: the cluster is closing\n"
    assert "go on" not in out


def test_sighup_while_closing_is_refused_in_the_log_and_a_third_signal_changes_nothing(project: Project) -> None:
    cluster = start(project, "--app-close-timeout", "60000")
    with connect(cluster, 1) as connection:
        connection.send("mark('busy'); await asyncio.sleep(60)")
        wait_until(lambda: marks(project, "busy"), "a request is under way")
        cluster.signal(signal.SIGTERM)
        cluster.wait_log("receive signal SIGTERM, closing")
        cluster.signal(signal.SIGHUP)
        cluster.wait_log("no reload: the cluster is stopping the app workers")
        for _ in range(2):
            cluster.signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                cluster.process.wait(0.05)
        assert cluster.wait_exit(5) == 0


# -- signals that are not for the master ---------------------------------------------------------------------------


UNUSED = ["SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU", "SIGALRM", "SIGPROF", "SIGVTALRM", "SIGIO", "SIGPWR", "SIGSTKFLT"]
UNUSED += ["SIGRTMIN", "SIGRTMAX"]


def test_a_signal_that_means_nothing_to_a_master_ends_and_stops_nothing(project: Project) -> None:
    cluster = start(project)
    before = cluster.workers()
    for number in (signal.SIGPIPE, signal.SIGWINCH):
        cluster.signal(number)
    numbers = [getattr(signal, name) for name in UNUSED if hasattr(signal, name)]
    for number in numbers:
        cluster.signal(number)
        cluster.wait_log(f"receive signal {signal_name(number)}, which a master does not use")
    assert cluster.get().status_code == 200
    assert cluster.workers() == before
    assert cluster.close() == 0


@pytest.mark.parametrize("number", [signal.SIGTTIN, signal.SIGTTOU])
def test_what_the_master_blocks_is_not_blocked_in_what_it_starts(project: Project, number: signal.Signals) -> None:
    """In a child of a worker, too: SIGTTIN stops a program that reads from a terminal in the background, as ever."""
    ignored = f"return signal.getsignal(signal.{number.name}) is signal.SIG_IGN"
    inner = "import signal; print([int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, [])])"
    cluster = start(project)
    with connect(cluster, 1) as connection:
        assert connection.tell(MASK) == []
        assert connection.tell(ignored) is False
        child = f"return subprocess.run([sys.executable, '-c', {inner!r}], capture_output=True, text=True).stdout"
        assert connection.tell(child) == "[]\n"
    assert cluster.close() == 0


def test_an_application_may_use_sigusr1_in_its_workers(project: Project) -> None:
    own = "\nimport signal\nsignal.signal(signal.SIGUSR1, lambda *_: remote.mark('usr1', app.slot))\n"
    cluster = obedient(project, app=own).start("--workers", "1").wait_ready()
    os.kill(cluster.workers()[1], signal.SIGUSR1)
    wait_until(lambda: marks(project, "usr1"), "its handler ran")
    assert cluster.close() == 0


# -- what was inherited --------------------------------------------------------------------------------------------


def inheriting(project: Project, how: str) -> Launched:
    launcher = (sys.executable, "-c", INHERITING, how)
    return obedient(project).start("--workers", "1", launcher=launcher).wait_ready()


def test_signals_that_the_parent_blocked_are_heard_by_master_and_workers(project: Project) -> None:
    cluster = inheriting(project, "block")
    with connect(cluster, 1) as connection:
        assert connection.tell(MASK) == []
    worker = cluster.workers()[1]
    cluster.signal(signal.SIGHUP)
    wait_until(lambda: cluster.workers().get(1) not in (None, worker), "it is reloaded")
    worker = cluster.workers()[1]
    os.kill(worker, signal.SIGTERM)
    wait_until(lambda: cluster.workers().get(1) not in (None, worker), "it has closed and is replaced")
    assert "signal: SIGKILL" not in cluster.log
    assert cluster.close() == 0


def test_an_ignored_sighup_stays_ignored_and_what_closes_is_heard(project: Project) -> None:
    """As under nohup. An ignored SIGCHLD would take the exit codes of all children away."""
    cluster = inheriting(project, "ignore")
    before = cluster.workers()
    cluster.signal(signal.SIGHUP)
    with connect(cluster, 1) as connection:
        assert connection.tell(CHILD_CODE) == 3
        with suppress(Exception):
            connection.tell("os._exit(7)")
    wait_until(lambda: cluster.workers().get(1) not in (None, before[1]), "it is replaced")
    assert "(code: 7, signal: None" in cluster.log
    assert "SIGHUP" not in cluster.log
    assert cluster.command("reload").returncode == 0
    assert cluster.close() == 0
