"""An application, or a library, that takes SIGTERM: its workers close in order all the same, and the log names it."""

import signal
import subprocess
import sys

import pytest

from tests.cluster.harness import Launched, Project
from tests.cluster.remote import connect, marks, obedient
from tests.waiting import wait_until

TAKING = """
import functools, signal

def on_term(*_):
    remote.mark("heard", "SIGTERM")

def leave(*_):
    remote.mark("heard", "SIGTERM")
    remote.sys.exit(3)

@{me}.on_start
async def take():
    loop = remote.asyncio.get_running_loop()
    {take}
"""
NAMED = "app.on_term ("
# What the application does, and what the log says about it.
WAYS = {
    "a function": ("signal.signal(signal.SIGTERM, on_term)", f"{NAMED}"),
    "a function that leaves": ("signal.signal(signal.SIGTERM, leave)", "app.leave ("),
    "a loop's handler": ("loop.add_signal_handler(signal.SIGTERM, on_term)", f"add_signal_handler gave it to {NAMED}"),
    "a partial function": ("loop.add_signal_handler(signal.SIGTERM, functools.partial(on_term, 1))", NAMED),
    "a loop's handler that leaves": ("loop.add_signal_handler(signal.SIGTERM, leave)", "app.leave ("),
    "the loop's end": ("loop.add_signal_handler(signal.SIGTERM, loop.stop)", "gave it to "),
    "the default action": ("signal.signal(signal.SIGTERM, signal.SIG_DFL)", "its default action was restored"),
    "ignored": ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "it is ignored"),
    "taken back from the loop": (
        "loop.add_signal_handler(signal.SIGTERM, on_term); loop.remove_signal_handler(signal.SIGTERM)",
        "its default action was restored",
    ),
}
DEAF = {"the loop's end", "the default action", "ignored", "taken back from the loop"}
BUSY = """
mark('busy')
while not os.path.exists('go on'):
    await asyncio.sleep(0.01)
return 'answered'
"""


def taking(project: Project, take: str, *arguments: str) -> Launched:
    app, agent = TAKING.format(me="app", take=take), TAKING.format(me="agent", take=take)
    return obedient(project, app=app, agent=agent).start("--workers", "1", *arguments).wait_ready()


@pytest.mark.parametrize("way", WAYS)
def test_requests_under_way_are_finished_and_the_log_names_the_taker(project: Project, way: str) -> None:
    take, named = WAYS[way]
    cluster = taking(project, take)
    with connect(cluster, 1) as connection:
        connection.send(BUSY)
        wait_until(lambda: marks(project, "busy"), "a request is under way")
        reload = subprocess.Popen(
            [sys.executable, "-m", "eggcluster", "reload", "--agent"], cwd=project.folder, env=project.environ
        )
        cluster.wait_log("[app_worker#1] SIGTERM is not eggcluster's any more")
        (project.folder / "go on").touch()
        assert "answered" in connection.read()
    assert reload.wait(30) == 0
    lines = [line for line in cluster.log.splitlines() if "SIGTERM is not eggcluster's any more" in line]
    assert {line.partition("[")[2].partition("]")[0] for line in lines} == {"agent_worker", "app_worker#1"}
    assert all(named.replace("app.", "app." if "app_worker" in line else "agent.") in line for line in lines), lines
    assert "signal: SIG" not in cluster.log
    assert {(line[0], line[1]) for line in marks(project, "closing")} == {
        ("app#1", "lifespan"),
        ("app#1", "on_close"),
        ("agent", "on_close"),
    }
    assert len(marks(project, "heard")) == (0 if way in DEAF else 2)
    cluster.signal(signal.SIGTERM)
    assert cluster.wait_exit(15) == 0


def test_one_whose_sigterm_is_taken_and_whose_loop_is_blocked_is_ended_by_force(project: Project) -> None:
    cluster = taking(project, "signal.signal(signal.SIGTERM, on_term)", "--app-close-timeout", "1500")
    with connect(cluster, 1) as connection:
        connection.send("mark('busy'); time.sleep(600)")
        wait_until(lambda: marks(project, "busy"), "the loop is blocked")
        cluster.signal(signal.SIGTERM)
        assert cluster.wait_exit(15) == 0
    assert "app_worker#1:" in cluster.log
    assert "it was killed" in cluster.log


def test_nothing_is_said_where_sigterm_is_the_workers_own(project: Project) -> None:
    cluster = obedient(project).start("--workers", "1").wait_ready()
    assert cluster.close() == 0
    assert "SIGTERM is not eggcluster's" not in cluster.log
    assert "signal: SIG" not in cluster.log
