"""No orphans: when the master is killed, everything that it started is gone within a second, blocked or not."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from eggcluster.kernel.process_tree import is_running
from tests.cluster.harness import TEMPLATES, Launched, Project
from tests.cluster.remote import connect, marks, obedient
from tests.waiting import wait_until

LIMIT = 1.5  # seconds; the contract's one, and half of one for a busy machine

# Runs a cluster as its child, and inherits whatever that leaves behind. Told to, it kills the master, waits for every
# descendant, and prints how each ended: {pid: [exit code or -signal, seconds after the kill]}.
FOSTER_PARENT = """
import ctypes, json, os, signal, subprocess, sys, time

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
master = subprocess.Popen([sys.executable, "-m", "eggcluster", "start", *sys.argv[1:]], stdin=subprocess.DEVNULL,
                          stdout=sys.stderr)
print(master.pid, flush=True)
sys.stdin.readline()
killed_at = time.monotonic()
os.kill(master.pid, signal.SIGKILL)
ends = {}
signal.alarm(4)  # then it dies, and the answer is missing
while True:
    try:
        pid, status = os.waitpid(-1, 0)
    except ChildProcessError:
        break
    ends[pid] = [os.waitstatus_to_exitcode(status), time.monotonic() - killed_at]
print(json.dumps(ends), flush=True)
"""

End = tuple[int, float]


class Fostered(Launched):
    """A cluster whose descendants end up with a foster parent, which knows how and when each of them ended."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self.folder = project.folder
        self.environ = project.environ
        self.log_path = project.folder / "cluster.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", FOSTER_PARENT, "--port", "0", *arguments],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        self._pid = int(self.process.stdout.readline())

    @property
    def pid(self) -> int:
        return self._pid

    def wait_ready(self) -> "Fostered":
        super().wait_ready()
        return self

    def kill_master(self) -> dict[int, End]:
        """Kill the master; how and when every other descendant ended."""
        out, _ = self.process.communicate(b"kill\n", timeout=20)
        assert out, "a process was still alive after four seconds"
        ends = {int(pid): (end[0], end[1]) for pid, end in json.loads(out).items()}
        assert ends.pop(self.pid)[0] == -9
        assert not self.family()
        return ends

    def end(self) -> None:
        """Kill whatever the test has left."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
            for process in self.family():
                process.kill()
        self.process.wait()


Start = Callable[..., Fostered]


@pytest.fixture
def foster(project: Project) -> Iterator[Start]:
    """Starts such a cluster, not waited for."""
    started: list[Fostered] = []

    def start(*arguments: str) -> Fostered:
        started.append(Fostered(obedient(project), *arguments))
        return started[-1]

    yield start
    for cluster in started:
        cluster.end()


def latest(ends: dict[int, End]) -> float:
    """Seconds after which the last one was gone."""
    return max(seconds for _, seconds in ends.values())


def test_idle_workers_leave_by_themselves(foster: Start) -> None:
    cluster = foster("--workers", "2").wait_ready()
    agent, workers = cluster.agent(), cluster.workers()
    ends = cluster.kill_master()
    assert ends.keys() >= {agent, *workers.values()}
    assert len(ends) == 3 + TEMPLATES
    assert {code for code, _ in ends.values()} == {110}
    assert latest(ends) < LIMIT


def test_blocked_workers_are_gone_as_well(foster: Start, project: Project) -> None:
    cluster = foster("--workers", "3").wait_ready()
    workers = cluster.workers()
    with connect(cluster, 1) as sleeping, connect(cluster, 2) as computing:
        sleeping.send("mark('blocked'); time.sleep(1000)")
        computing.send("mark('blocked'); re.match('(a+)+$', 'a' * 64 + 'b')")  # holds the GIL for years
        wait_until(lambda: len(marks(project, "blocked")) == 2, "both are blocked")
        ends = cluster.kill_master()
    assert ends[workers[1]][0] == 110
    assert ends[workers[2]][0] == -9
    assert ends[workers[3]][0] == 110
    assert latest(ends) < LIMIT


@pytest.mark.xfail(not TEMPLATES, strict=True, reason="without a template, only another worker could end them")
def test_not_even_workers_that_all_hold_their_gil_stay(foster: Start, project: Project) -> None:
    cluster = foster("--workers", "1").wait_ready()
    with connect(cluster, 1) as connection:
        forever = "mark('blocked'); re.match('(a+)+$', 'a' * 64 + 'b')"
        connection.send(f"messenger.send_to_agent('run', [{forever!r}, None]); await messenger.drain(); {forever}")
        wait_until(lambda: len(marks(project, "blocked")) == 2, "agent and worker are blocked")
        ends = cluster.kill_master()
    assert latest(ends) < LIMIT


# Makes an interpreter slow to start where it is to be a worker: its master dies before it has run a line of ours.
SLOW_START = """
import sys, time
if {"eggcluster.worker", "eggcluster.template"} & {*sys.orig_argv}:
    open("starting", "w").close()
    time.sleep(0.5)
"""


def test_a_worker_whose_master_is_killed_while_its_interpreter_starts_is_gone(foster: Start, project: Project) -> None:
    project.write(sitecustomize=SLOW_START)
    paths = [str(project.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    project.environ["PYTHONPATH"] = os.pathsep.join(paths)
    cluster = foster("--workers", "1")
    wait_until((project.folder / "starting").exists, "the interpreter of the agent, or of the template, starts")
    ends = cluster.kill_master()
    # A template that is not ready is killed by the kernel, as soon as it has asked for that.
    assert {code for code, _ in ends.values()} in ({110}, {-9})
    assert latest(ends) < LIMIT + 0.5


DAEMON = """
pid = os.fork()
if pid == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open("/dev/null") as null:
        os.dup2(null.fileno(), 1)
    os.execvp("sleep", ["sleep", "1000"])
os.waitpid(pid, 0)
"""
CHILDREN = {
    "a child": "subprocess.Popen(['sleep', '1000'])",
    "a child deaf to SIGTERM": "subprocess.Popen(['sh', '-c', 'trap \"\" TERM; sleep 1000'], start_new_session=True)",
    "a daemonised grandchild": DAEMON,
    "multiprocessing, forked": (
        "import multiprocessing as m\nm.get_context('fork').Process(target=time.sleep, args=[1000]).start()"
    ),
    "multiprocessing, spawned": (
        "import multiprocessing as m\nm.get_context('spawn').Process(target=time.sleep, args=[1000]).start()"
    ),
}


def test_what_workers_and_agent_started_goes_with_them(foster: Start) -> None:
    cluster = foster("--workers", "2").wait_ready()
    before = {process.pid for process in cluster.family()}
    with connect(cluster, 1) as connection:
        for source in CHILDREN.values():
            connection.tell(source)
            connection.tell(f"await messenger.request('run', [{source!r}, None], to='agent')")
        # each has a process of its own, the spawned one a resource tracker too, the shell its sleep
        wait_until(lambda: len({process.pid for process in cluster.family()} - before) >= 14, "all have started")
        ends = cluster.kill_master()  # it also sees that the family is gone
    assert len(ends) > 3 + 10
    assert latest(ends) < LIMIT


def test_children_outlive_their_blocked_worker_no_longer(foster: Start, project: Project) -> None:
    cluster = foster("--workers", "1").wait_ready()
    with connect(cluster, 1) as connection:
        connection.tell(CHILDREN["a child deaf to SIGTERM"])
        connection.tell(DAEMON)
        connection.send("mark('blocked'); re.match('(a+)+$', 'a' * 64 + 'b')")
        wait_until(lambda: marks(project, "blocked"), "the worker is blocked")
        ends = cluster.kill_master()
    assert len(ends) >= 2 + 2  # and the shell's sleep, if it has come so far
    assert latest(ends) < LIMIT


def test_the_next_cluster_starts_where_a_killed_one_stood(foster: Start, project: Project) -> None:
    pid_file = str(project.folder / "pid")
    first = foster("--workers", "1", "--pid-file", pid_file).wait_ready()
    first.kill_master()
    second = project.start("--workers", "1", "--pid-file", pid_file).wait_ready()
    assert not is_running(first.pid)
    assert second.get().status_code == 200
    assert second.close() == 0
