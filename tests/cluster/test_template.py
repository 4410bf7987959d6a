"""The base template: what it is, that a forked worker is the same as a started one, and what happens without it."""

import json
import os
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from eggcluster.kernel.process_tree import children_of, is_running
from tests.cluster.harness import AGENT, HELLO, TEMPLATES, Launched, Project, family
from tests.cluster.remote import connect, marks, obedient
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not TEMPLATES, reason="there are no templates")


def titled(cluster: Launched, title: str) -> list[psutil.Process]:
    return [each for each in cluster.family() if (each.cmdline() or [""])[0].startswith(title)]


def template(cluster: Launched) -> psutil.Process:
    [found] = titled(cluster, "egg-template")
    return found


def kill_worker(cluster: Launched, slot: int = 1) -> int:
    """Kill the worker in a slot; return the pid of its successor."""
    before = cluster.workers()[slot]
    os.kill(before, signal.SIGKILL)
    return wait_until(lambda: {slot: 0, **cluster.workers()}[slot] not in (0, before) and cluster.workers()[slot])


def test_it_is_a_child_of_the_master_with_one_thread_and_one_socket(hello: Launched, project: Project) -> None:
    found = template(hello)
    assert found.cmdline()[0].rstrip() == f"egg-template: {project.folder.name}"
    assert (found.ppid(), found.num_threads(), os.getsid(found.pid)) == (hello.pid, 1, found.pid)
    targets = [os.readlink(path) for path in Path(f"/proc/{found.pid}/fd").iterdir()]
    assert len([target for target in targets if target.startswith("socket:")]) == 1


def test_agent_and_workers_are_the_masters_children_and_show_their_own_marks(hello: Launched) -> None:
    agent = hello.agent()
    assert agent is not None
    for pid in (agent, *hello.workers().values()):
        assert pid in children_of(hello.pid)
        assert os.getsid(pid) == os.getpgid(pid) == pid
    shown = {pid: mark_in_proc(pid) for pid in hello.workers().values()}
    assert [mark.rpartition("/")[2] for mark in shown.values()] == ["app#1.1", "app#2.1"]
    assert mark_in_proc(agent).endswith("/agent#0.1")


def mark_in_proc(pid: int) -> str:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    [mark] = [entry for entry in entries if entry.startswith("EGG_WORKER_MARK=")]
    return mark


# What a worker finds at the beginning. Left out are numbers of its own: pids, marks, descriptors.
DESCRIBE = """
import resource, threading, locale
ids = os.getpid() == os.getsid(0) == os.getpgid(0) == me.worker_id == threading.main_thread().native_id
kinds = ("Umask", "Sig", "Cap", "NoNewPrivs", "Seccomp", "Cpus_allowed", "Groups", "Uid", "Gid")
paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
own = ("EGG_CLUSTER_ID", "EGG_WORKER_MARK", "EGG_NO_TEMPLATE")
return dict(
    ids=ids,
    status=[line for line in open("/proc/self/status") if line.startswith(kinds) and "SigQ" not in line],
    fds=sorted(re.sub(r"[:#].*|[0-9]*[.]log", "", os.readlink(path)) for path in paths if os.path.lexists(path)),
    inheritable=[(os.get_inheritable(fd), os.get_blocking(fd)) for fd in range(3)],
    limits=[resource.getrlimit(each) for each in range(16)],
    files=[open(f"/proc/self/{name}").read() for name in ("oom_score_adj", "cgroup")],
    cwd=os.getcwd(), nice=os.getpriority(os.PRIO_PROCESS, 0),
    path=sys.path[:], flags=list(sys.flags), argv=len(sys.argv), locale=locale.getlocale(),
    environ={name: value for name, value in os.environ.items() if name not in own},
    # That one ends at any moment: the worker has started.
    threads=sorted(thread.name for thread in threading.enumerate() if thread.name != "egg-start-watch"),
    handlers=[str(signal.getsignal(number)).split(" at ")[0] for number in (1, 2, 3, 13, 15, 17)],
)
"""
SURROUNDED = (
    "umask 027; ulimit -n 700; ulimit -c 0; trap '' HUP USR1; echo 77 > /proc/self/oom_score_adj; exec nice -n 3 \"$@\""
)


@pytest.mark.parametrize("launcher", [[], ["sh", "-c", SURROUNDED, "-"]], ids=["plain", "surrounded"])
def test_a_forked_worker_is_what_a_started_one_is(project: Project, launcher: list[str]) -> None:
    described = {}
    for without in ("", "1"):
        cluster = obedient(project).start("--workers", "1", launcher=launcher, EGG_NO_TEMPLATE=without, ODD="a=b\nc")
        with connect(cluster.wait_ready(), 1) as worker:
            described[without] = worker.tell(DESCRIBE)
        assert bool(titled(cluster, "egg-template")) is not bool(without)
        assert cluster.close() == 0
    forked, started = (described[each] for each in ("", "1"))
    assert forked["ids"]
    # A started interpreter has its blank argument besides, on which the title is written.
    assert (forked.pop("argv"), started.pop("argv")) == (2, 3)
    assert forked == started


def test_limits_of_the_master_that_change_later_hold_for_the_next_worker(hello: Launched) -> None:
    before = template(hello).pid
    soft, hard = resource.prlimit(hello.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(hello.pid, resource.RLIMIT_NOFILE, (soft - 1, hard))
    successor = kill_worker(hello)
    assert resource.prlimit(successor, resource.RLIMIT_NOFILE) == (soft - 1, hard)
    wait_until(lambda: not is_running(before), "the old template has ended")
    assert template(hello).pid != before


def test_workers_outlive_their_template_and_the_next_one_gets_a_new_template(hello: Launched) -> None:
    before, workers = template(hello).pid, hello.workers()
    os.kill(before, signal.SIGKILL)
    hello.wait_log(f"the template {before} died (code: -9)")
    assert hello.workers() == workers
    assert kill_worker(hello) in children_of(hello.pid)
    assert template(hello).pid != before
    assert hello.get().status_code == 200


def test_a_reload_renews_the_template(hello: Launched) -> None:
    before = template(hello).pid
    assert hello.command("reload").returncode == 0
    wait_until(lambda: not is_running(before), "the old template has ended")
    assert template(hello).ppid() == hello.pid


RANDOM = """
import random, uuid, secrets, tempfile, ssl
made = [random.random(), str(uuid.uuid4()), str(uuid.uuid1()), secrets.token_hex(), tempfile.mktemp()]
return [*made, ssl.RAND_bytes(16).hex()]
"""


def test_workers_do_not_share_random_numbers(project: Project) -> None:
    cluster = obedient(project).start("--workers", "3").wait_ready()
    made = set()
    for slot in (1, 2, 3):
        with connect(cluster, slot) as worker:
            made |= {*worker.tell(RANDOM)}
    assert len(made) == 3 * 6


def replaced(cluster: Launched, before: int) -> bool:
    return cluster.workers().get(1, before) != before


def test_workers_that_die_one_after_the_other_are_reported_with_their_own_exit_codes(project: Project) -> None:
    """Also one that dies before the master knows it: its exit code is waited for, not reaped with the orphans."""
    cluster = obedient(project).start("--workers", "2").wait_ready()
    for code in range(1, 9):
        with connect(cluster, 1) as worker:
            before = cluster.workers()[1]
            worker.send(f"os._exit({code})")
            cluster.wait_log(f"app_worker#1:{before} died (code: {code}, signal: None")
            wait_until(partial(replaced, cluster, before), "it is replaced")
    assert len(marks(project, "births")) == 1 + 2 + 8


THREADED = """
import sys, threading
if "eggcluster.template" in sys.orig_argv:
    threading.Thread(target=threading.Event().wait, name="exporter", daemon=True).start()
"""
OPENED = """
import sys
if "eggcluster.template" in sys.orig_argv:
    kept = open(__file__)
"""


@pytest.mark.parametrize(
    ("site", "why"),
    [(THREADED, "it has threads: exporter"), (OPENED, "it has open file descriptors: {folder}/sitecustomize.py")],
    ids=["a thread", "a file"],
)
def test_a_template_that_is_unfit_forks_no_worker(project: Project, site: str, why: str) -> None:
    project.write(app=HELLO, agent=AGENT, sitecustomize=site)
    paths = [str(project.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    cluster = project.start("--workers", "2", PYTHONPATH=os.pathsep.join(paths)).wait_ready()
    text = f"workers are started as fresh interpreters, the template forks none: {why.format(folder=project.folder)}"
    assert cluster.log.count(text) == 1
    assert len(cluster.workers()) == 2
    wait_until(lambda: not titled(cluster, "egg-template"), "it has ended")
    assert cluster.close() == 0


PROGRAM = """
import asyncio, json
from eggcluster import start_cluster

async def main():
    cluster = await start_cluster("app:app", port=0, workers=1)
    print(json.dumps(cluster.workers[0].worker_id), flush=True)
    await cluster.wait_closed()

asyncio.run(main())
"""


def test_a_program_that_is_its_own_master_adopts_nothing_and_has_no_template(project: Project) -> None:
    project.write(app=HELLO, program=PROGRAM)
    command = [sys.executable, "program.py"]
    with subprocess.Popen(command, cwd=project.folder, env=project.environ, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        worker: Any = json.loads(program.stdout.readline())
        assert sorted(children_of(program.pid)) == sorted(each.pid for each in family(program.pid))
        assert worker in children_of(program.pid)
        assert len(family(program.pid)) == 2
        program.send_signal(signal.SIGTERM)
    assert program.returncode == 0
