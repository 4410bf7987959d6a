"""The schedule with real processes: ticks are counted in a file, while agent and workers are killed and replaced."""

import contextlib
import json
import os
import random
import signal
import time
from typing import Any

import pytest

from tests.cluster.harness import Launched, Project
from tests.cluster.ticks import Ticks, post, write
from tests.waiting import DEADLINE, wait_until

ONE = """
@app.schedule("{interval}"{terms})
async def poll():
    await notes.run("poll", {takes})
"""
MINE = ONE.replace("app.schedule", "agent.schedule")


def one(interval: str = "200ms", takes: float = 0, **terms: Any) -> str:
    """A task of the app's."""
    return ONE.format(interval=interval, takes=takes, terms="".join(f", {k}={v!r}" for k, v in terms.items()))


def mine(interval: str = "200ms", takes: float = 0, **terms: Any) -> str:
    """A task of the agent's."""
    return one(interval, takes, **terms).replace("app.schedule", "agent.schedule")


def ran(project: Project, count: int, name: str = "poll") -> Ticks:
    """Wait until that many runs have ended."""

    def enough() -> Ticks | None:
        ticks = Ticks(project, name)
        return ticks if sum(run.end is not None for run in ticks.runs) >= count else None

    return wait_until(enough, f"{count} runs of {name}")


def run_of_other(project: Project, pid: int) -> Ticks | None:
    """All runs, once there is one of another process."""
    ticks = Ticks(project, "poll")
    return ticks if ticks.runs[-1].pid != pid else None


def kill_agent(cluster: Launched) -> tuple[float, float]:
    """Kill the agent, and wait for the next one: from when to when there was none, in Unix seconds."""
    pid = wait_until(cluster.agent, "an agent")
    began = time.time()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: cluster.agent() not in (None, pid), "a new agent")
    return began, time.time()


def listed(cluster: Launched, name: str = "poll") -> dict[str, Any]:
    """The task as `eggcluster schedules --json` shows it; waits until the agent knows it."""

    def found() -> dict[str, Any] | None:
        answer = cluster.command("schedules", "--json")
        tasks = json.loads(answer.stdout) if answer.returncode == 0 else []
        return next((task for task in tasks if task["name"] == name), None)

    return wait_until(found, f"{name} is listed")


# -- where it runs -------------------------------------------------------------------------------------------------


def test_of_four_workers_one_runs_each_tick_or_each_of_them_or_the_agent(project: Project) -> None:
    every = one(type="all").replace("poll", "every")
    cluster = write(project, app=one() + every, agent=mine().replace("poll", "mine")).start("-w", "4").wait_ready()
    poll, agents, everybodys = ran(project, 10), ran(project, 10, "mine"), ran(project, 40, "every")
    workers = set(cluster.workers().values())
    assert {run.pid for run in poll.runs} <= workers
    assert {run.pid for run in agents.runs} == {cluster.agent()}
    first = everybodys.runs[0].due
    for due in {run.due for run in everybodys.runs if run.due < everybodys.runs[-1].due}:
        assert {run.pid for run in everybodys.runs if run.due == due} == workers, due - first
    for ticks in (poll, agents):
        assert ticks.twice() == []
        assert ticks.off_grid(0.2) == []
    cluster.close()


def test_cron_with_its_seconds(project: Project) -> None:
    task = """
@app.schedule(cron="* * * * * *", timezone="Asia/Kathmandu")
async def poll():
    await notes.run("poll")
"""
    cluster = write(project, app=task).start("-w", "2").wait_ready()
    ticks = ran(project, 3)
    assert all(due == int(due) for due in ticks.dues)
    assert all(run.due <= run.begin for run in ticks.runs), "one began before its second"
    assert ticks.missing(1.0, cluster.log) == []
    cluster.close()


def test_a_custom_type_brings_its_tasks_about_and_gives_them_arguments(project: Project) -> None:
    agent = """
from eggcluster import ScheduleStrategy

@agent.schedule.use("queue")
class Queue(ScheduleStrategy):
    async def start(self):
        for number in range(3):
            run = await self.send_one({"number": number})
            notes.note("gave", run.outcome, run.error or "-", self.terms.options["of"])
        run = await self.send_all("all")
        notes.note("gave", run.outcome, run.where.replace(" ", "-"), "x")
    async def close(self):
        notes.note("closed", "0", "0", "0")
"""
    app = """
@app.schedule(type="queue", options={"of": "jobs"})
def take(job):
    notes.note("took", str(job).replace(" ", ""), notes.os.getpid(), 0)
    assert job != {"number": 1}
"""
    cluster = write(project, app=app, agent=agent).start("-w", "2").wait_ready()
    cluster.allows_traceback = True
    path = project.folder / "ticks"
    wait_until(lambda: path.exists() and path.read_text().count("gave") == 4, "all was sent")
    took = [line.split()[1] for line in path.read_text().splitlines() if line.startswith("took")]
    assert took == ["{'number':0}", "{'number':1}", "{'number':2}", "all", "all"]
    gave = [line.split()[1:] for line in path.read_text().splitlines() if line.startswith("gave")]
    assert [words[0] for words in gave] == ["ok", "failed", "ok", "ok"]
    assert gave[3][1] == "2-workers"
    cluster.close()
    assert "closed" in path.read_text()


def test_one_run_by_hand_and_what_the_command_line_shows(project: Project) -> None:
    tasks = one("1h", name="hourly").replace('notes.run("poll"', 'notes.run("hourly"')
    bad = """
@app.schedule("1h", type="all")
def bad(word="tick"):
    raise ValueError(word)
"""
    cluster = write(project, app=tasks + bad, agent=mine("1h")).start("-w", "2").wait_ready()
    cluster.allows_traceback = True
    listed(cluster)
    assert "outcome='ok'" in post(cluster, "hourly")
    assert "trigger='hand'" in post(cluster, "poll")
    assert "RunFailed: no schedule is called" in post(cluster, "nothing")
    assert 'RunFailed: schedule "bad" failed: app#' in post(cluster, "bad oh")
    assert len(Ticks(project, "hourly").runs) == 1
    table = cluster.command("schedules").stdout.splitlines()
    assert [line.split()[0] for line in table] == ["name", "bad", "hourly", "poll"]
    assert "every 1h" in table[2]
    assert "in 59m" in table[2] or "in 1h00m" in table[2]
    history = cluster.command("schedules", "bad").stdout.splitlines()
    assert len(history) == 2
    assert "ValueError: oh" in history[1]
    assert cluster.command("schedules", "nothing").returncode == 1
    cluster.close()


# -- never twice, never two at once --------------------------------------------------------------------------------


def test_no_tick_twice_and_none_overlapping_while_agent_and_workers_are_killed_and_replaced(project: Project) -> None:
    troubled(project, seconds=12, seed=7)


def troubled(project: Project, seconds: float, seed: int) -> None:
    """Four workers, killed at random together with the agent, and a reload now and then."""
    chance = random.Random(seed)
    app = one("200ms", 0.05) + one("500ms", 0.9, overlap="queue", catch_up=True).replace("poll", "long")
    cluster = write(project, app=app, agent=mine("200ms", 0.05).replace("poll", "mine")).start("-w", "4").wait_ready()
    excuses: list[tuple[float, float]] = []
    until = time.time() + seconds
    trouble = [kill_agent, kill_worker, reload, kill_worker, reload_all]
    while time.time() < until:
        for make in chance.sample(trouble, len(trouble)):
            time.sleep(chance.uniform(0.2, 1.0))  # not a wait for anything: trouble comes at any moment
            away = make(cluster)
            if make in (kill_agent, reload_all):
                excuses.append((away[0] - 0.2, away[1]))
    quiet = time.time()
    wait_until(lambda: Ticks(project, "poll").runs[-1].due > quiet + 1.5, "it goes on")
    cluster.close()
    for name, interval in (("poll", 0.2), ("mine", 0.2), ("long", 0.5)):
        ticks = Ticks(project, name)
        assert ticks.twice() == [], name
        assert ticks.overlapping() == [], name
        assert ticks.off_grid(interval) == [], name
        assert len(ticks.runs) > seconds / 3, name
    for name in ("poll", "mine"):
        assert Ticks(project, name).missing(0.2, cluster.log, excuses) == [], (name, excuses)


def kill_worker(cluster: Launched) -> tuple[float, float]:
    """Kill any worker, and wait until its slot is filled; gives from when to when it was not."""
    before = wait_until(cluster.workers, "workers")
    slot, pid = random.choice(list(before.items()))
    began = time.time()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: cluster.workers().get(slot) not in (None, pid), f"slot {slot} is filled")
    return began, time.time()


def reload(cluster: Launched) -> tuple[float, float]:
    """Replace all workers; gives how long it took."""
    began = time.time()
    assert cluster.command("reload").returncode == 0
    return began, time.time()


def reload_all(cluster: Launched) -> tuple[float, float]:
    """The agent is replaced, too; gives from when to when there was none, at most."""
    before = wait_until(cluster.agent, "an agent")
    began = time.time()
    reloading = cluster.command("reload", "--agent")
    assert reloading.returncode == 0, reloading.stderr
    wait_until(lambda: cluster.agent() not in (None, before), "a new agent")
    return began, time.time()


def test_a_run_that_outlives_its_agent_still_counts_and_its_end_is_known(project: Project) -> None:
    cluster = write(project, app=one("300ms", 2.5)).start("-w", "3").wait_ready()
    wait_until(lambda: Ticks(project, "poll").runs, "the first run")
    kill_agent(cluster)
    wait_until(lambda: len(Ticks(project, "poll").runs) > 1, "the second run")
    ticks = Ticks(project, "poll")
    assert ticks.runs[0].end is not None
    assert ticks.runs[0].end < ticks.runs[1].begin
    first = listed(cluster)["history"][0]
    assert (first["trigger"], first["outcome"]) == ("by the agent before", "ok")
    assert str(ticks.runs[0].pid) in first["where"]
    cluster.close()


def test_a_tick_that_killed_the_agent_does_not_kill_the_next_one(project: Project) -> None:
    agent = """
serving = notes.os.path.dirname(__file__) + "/serving"

@agent.on_ready
def mark_serving():
    open(serving, "w").close()

@agent.schedule("400ms", catch_up=True)
async def poll():
    if not notes.os.path.exists(serving):  # an agent that dies during the boot ends the cluster
        return
    notes.note("begin", "poll", notes.scheduled_for(), notes.os.getpid(), notes.time.time())
    if len(open(notes.os.path.dirname(__file__) + "/ticks").readlines()) < 3:
        notes.os.kill(notes.os.getpid(), 9)
    notes.note("end", "poll", notes.scheduled_for(), notes.os.getpid(), notes.time.time())
"""
    cluster = write(project, agent=agent).start("-w", "1").wait_ready()
    ticks = ran(project, 3)
    assert len({run.pid for run in ticks.runs}) == 3
    assert ticks.twice() == []
    assert ticks.off_grid(0.4) == []
    cluster.close()


@pytest.mark.parametrize("catch_up", [False, True])
def test_ticks_that_fall_into_a_replacement_are_left_out_or_made_up_for_once(project: Project, catch_up: bool) -> None:
    born = '\nnotes.note("begin", "born", 0, notes.os.getpid(), notes.time.time())\n'
    cluster = write(project, agent=born + mine("400ms", catch_up=catch_up)).start("-w", "1").wait_ready()
    first = ran(project, 2).runs[0]
    kill_agent(cluster)
    wait_until(lambda: run_of_other(project, first.pid), "a run of the new agent")
    triggers = [run["trigger"] for run in listed(cluster)["history"]]
    assert triggers.count("catch up") == int(catch_up), "of several that were missed one is made up for"
    ticks = ran(project, len(triggers) + 2)
    loaded = Ticks(project, "born").runs[-1].begin
    news = [run for run in ticks.runs if run.pid != first.pid]
    assert all(run.begin > loaded for run in news)
    assert catch_up or all(run.due > loaded for run in news), "none is made up for"
    assert ticks.twice() == []
    cluster.close()


# -- a worker dies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry", [0, 1])
def test_a_run_whose_worker_died_is_lost_or_begun_again_elsewhere(project: Project, retry: int) -> None:
    cluster = write(project, app=one("1s", 2, retry=retry)).start("-w", "2").wait_ready()
    first = wait_until(lambda: Ticks(project, "poll").runs, "the first run")[0]
    os.kill(first.pid, signal.SIGKILL)
    ticks = ran(project, 1)
    assert (ticks.runs[1].due == first.due) is bool(retry)
    assert ticks.runs[1].pid != first.pid
    history = listed(cluster)["history"]
    assert history[0]["outcome"] == ("ok" if retry else "lost")
    assert retry or "died before it answered" in history[0]["error"]
    cluster.close()


def test_with_one_worker_a_tick_waits_for_its_replacement(project: Project) -> None:
    cluster = write(project, app=one("100ms")).start("-w", "1").wait_ready()
    before = ran(project, 1).runs[0].pid
    os.kill(before, signal.SIGKILL)
    after = wait_until(lambda: run_of_other(project, before), "a run of the replacement")
    assert after.twice() == []
    assert listed(cluster)["counts"].get("nobody") is None
    cluster.close()


def test_a_worker_that_closes_lets_its_run_finish(project: Project) -> None:
    cluster = write(project, app=one("200ms", 2)).start("-w", "1").wait_ready()
    first = wait_until(lambda: Ticks(project, "poll").runs, "a run")[0]
    assert cluster.command("reload").returncode == 0
    ticks = ran(project, 2)
    assert ticks.runs[0].end is not None
    assert ticks.runs[1].pid != first.pid
    assert ticks.overlapping() == []
    assert listed(cluster)["history"][0]["outcome"] == "ok"
    cluster.close()


# -- terms -----------------------------------------------------------------------------------------------------------


def test_a_reload_changes_the_terms_and_another_one_removes_the_task(project: Project) -> None:
    cluster = write(project, app=one("1h")).start("-w", "2").wait_ready()
    assert listed(cluster)["when"] == "every 1h"
    write(project, app=one("200ms"))
    assert cluster.command("reload").returncode == 0
    wait_until(lambda: listed(cluster)["when"] == "every 200ms", "the new terms")
    ticks = ran(project, 3)
    assert ticks.missing(0.2, cluster.log) == []
    kill_agent(cluster)  # the new one asks the workers
    wait_until(lambda: listed(cluster)["when"] == "every 200ms", "the new agent knows it, too")
    write(project)
    assert cluster.command("reload").returncode == 0
    wait_until(lambda: cluster.command("schedules").stdout == "nothing is scheduled\n", "it is gone")
    cluster.close()


BOOT_FAILURES = {
    "a bad expression": (
        {"app": '\n@app.schedule(cron="61 * * * *")\ndef poll(): ...\n'},
        "schedule app.poll: cron='61 * * * *' is not a cron expression: Bad minute",
    ),
    "a bad zone": (
        {"agent": '\n@agent.schedule(cron="1 * * * *", timezone="Mars")\ndef poll(): ...\n'},
        "schedule agent.poll: timezone='Mars' is not a time zone",
    ),
    "an unknown type": (
        {"app": one(type="redis")},
        'schedule app.poll: type "redis" is not one of "worker", "all"',
    ),
    "other terms in another worker": (
        {
            "app": "\n@app.on_start\ndef late():\n    @app.schedule(app.slot)\n    def poll(): ...\n",
        },
        'schedule "poll" must be the same in each worker: app#',
    ),
    "a name of the agent's own": (
        {"app": one(), "agent": mine()},
        'schedule "poll" is a task of the agent and also app.poll',
    ),
    "a background task's bad restart": (
        {"agent": '\n@agent.background(restart="often")\ndef poll(): ...\n'},
        'background task agent.poll: restart=\'often\' is not one of "always", "on-error", "never"',
    ),
}


@pytest.mark.parametrize("what", BOOT_FAILURES)
def test_what_cannot_be_fails_the_boot_in_one_line_that_names_the_function(what: str, project: Project) -> None:
    modules, line = BOOT_FAILURES[what]
    cluster = write(project, **modules).start("-w", "2")
    assert cluster.wait_exit(DEADLINE) == 1
    assert line in cluster.log


# -- background tasks ------------------------------------------------------------------------------------------------


def test_background_tasks_are_in_the_status_and_stop_in_order(project: Project) -> None:
    task = """
@{me}.background
async def broken():
    raise ConnectionError("no server there")

@{me}.background(restart="always")
def thread():
    {me}.closing.wait()
    notes.note("{me}", "thread", 0, 0)

@{me}.background
async def last():
    try:
        await notes.asyncio.sleep(1000)
    finally:
        notes.note("{me}", "last", 0, 0)
"""
    modules = {"app": task.format(me="app"), "agent": task.format(me="agent")}
    cluster = write(project, **modules).start("-w", "1").wait_ready()
    cluster.allows_traceback = True

    def states() -> Any:
        status = json.loads(cluster.command("status", "--json").stdout)
        seats = [status["agent"], *status["workers"]]
        return seats if all(seat["background"] and seat["background"][0]["restarts"] > 1 for seat in seats) else None

    for seat in wait_until(states, "the broken one has been started again"):
        broken, *others = seat["background"]
        assert broken["last_error"] == "ConnectionError: no server there"
        assert [task["state"] for task in others] == ["running", "running"]
    assert "app#1 background broken: " in cluster.command("status").stdout
    assert cluster.close() == 0
    ended = [line.split()[:2] for line in (project.folder / "ticks").read_text().splitlines()]
    assert sorted(ended[:2]) == [["app", "last"], ["app", "thread"]]
    assert sorted(ended[2:]) == [["agent", "last"], ["agent", "thread"]]


def test_a_task_is_shown_before_its_first_run_and_run_by_hand(project: Project) -> None:
    broken = """
@agent.schedule("1h")
async def broken():
    raise ValueError("oh")
"""
    cluster = write(project, app=one("1h"), agent=broken).start("-w", "1").wait_ready()
    cluster.allows_traceback = True
    shown = cluster.command("schedules", "poll").stdout
    assert "every 1h" in shown
    assert "no run is known yet" in shown
    run = cluster.command("run-schedule", "poll")
    assert (run.returncode, run.stdout.split(",")[0]) == (0, "poll ok")
    (line,) = cluster.command("schedules", "poll").stdout.splitlines()[1:]
    assert " hand " in line
    failed = cluster.command("run-schedule", "broken")
    assert (failed.returncode, failed.stderr) == (1, 'eggcluster: schedule "broken" failed: ValueError: oh\n')
    unknown = cluster.command("run-schedule", "nothing")
    assert unknown.returncode == 1
    assert unknown.stderr == 'eggcluster: no schedule is called "nothing"; `eggcluster schedules` lists them\n'
    assert cluster.close() == 0
