"""Thread mode: what the application has started ends with the cluster, in whatever way that ends."""

import os
import signal

import psutil
import pytest

from tests.cluster.harness import AGENT, Project
from tests.waiting import wait_until

# One child of each kind; each writes its pid, and would live for ten minutes.
CHILDREN = """
import multiprocessing, os, subprocess, sys, time
from eggcluster import Application

def live(kind):
    with open(f"pid.{kind}.new", "w") as out:
        out.write(str(os.getpid()))
    os.rename(f"pid.{kind}.new", f"pid.{kind}")
    time.sleep(600)

async def api(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})

app = Application(api)
PROGRAM = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"

@app.on_start
def start():
    for kind in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(kind)
        context.Process(target=live, args=(kind,), daemon=True).start()
    subprocess.Popen([sys.executable, "-c", PROGRAM, "pid.program"])
    subprocess.Popen([sys.executable, "-c", PROGRAM, "pid.session"], start_new_session=True)
"""
KINDS = ("fork", "spawn", "forkserver", "program", "session")


def pids(project: Project) -> list[int]:
    found = [project.folder / f"pid.{kind}" for kind in KINDS]
    return [int(path.read_text()) for path in found if path.exists() and path.read_text()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_the_cluster(project: Project, number: signal.Signals) -> None:
    cluster = project.write(app=CHILDREN, agent=AGENT).start("--workers", "1", "--start-mode", "thread").wait_ready()
    children = wait_until(lambda: found if len(found := pids(project)) == len(KINDS) else None, "all children run")
    assert all(psutil.pid_exists(pid) for pid in children)
    os.kill(cluster.pid, number)
    cluster.process.wait(20)
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in children), "no child is left")


def test_nothing_but_the_guardian_is_beside_the_master_and_it_leaves_with_it(project: Project) -> None:
    cluster = project.write(app=CHILDREN.partition("@app.on_start")[0], agent=AGENT)
    launched = cluster.start("--workers", "2", "--start-mode", "thread").wait_ready()

    def guardians() -> list[int]:
        title = f"egg-guardian: {project.folder.name}"
        return [each.pid for each in psutil.process_iter() if " ".join(_words(each)).startswith(title)]

    (guardian,) = wait_until(guardians, "the guardian")
    assert not os.listdir(f"/proc/{guardian}/fd") or len(os.listdir(f"/proc/{guardian}/fd")) == 4  # 0 to 2, and a pidfd
    assert launched.close() == 0
    wait_until(lambda: not psutil.pid_exists(guardian), "it has ended, too")


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
