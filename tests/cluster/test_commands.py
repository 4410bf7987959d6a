"""The commands beside `start`: status, stop, reload, a daemon, `dev`; and how each finds the cluster that is meant."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import psutil
import pytest

import eggcluster
from tests.cluster.harness import AGENT, HELLO, TEMPLATES, Launched, Project, family
from tests.waiting import wait_until

SLOW_START = "import time\ntime.sleep(600)\n" + HELLO
VERSIONED = HELLO.replace('f"{app.slot}:{os.getpid()}"', '"first"')
# Each new worker waits at its start for a file `go`: so a reload can be looked at while it is under way.
GATED = HELLO + (
    "import asyncio, pathlib\n"
    "@app.on_start\nasync def wait():\n"
    "    while app.generation > 1 and not pathlib.Path('go').exists(): await asyncio.sleep(0.01)\n"
)


def said(answer: "subprocess.CompletedProcess[str]", code: int = 0) -> str:
    """What a command printed, which ended with this exit code."""
    assert answer.returncode == code, (answer.returncode, answer.stdout, answer.stderr)
    return answer.stdout


def complaint(answer: "subprocess.CompletedProcess[str]", code: int = 1) -> str:
    """The one line with which a command failed."""
    assert answer.returncode == code, (answer.returncode, answer.stdout, answer.stderr)
    assert len(answer.stderr.splitlines()) == 1, answer.stderr
    return answer.stderr.strip()


# -- status ------------------------------------------------------------------------------------------------


def test_status_shows_all_processes_as_a_table(hello: Launched) -> None:
    table = said(hello.command("status"))
    assert f"{hello.folder.name} serving on {hello.address}" in " ".join(table.split())
    rows = {line.split()[0]: line.split() for line in table.splitlines() if line}
    assert rows["master"][1] == str(hello.pid)
    assert rows["agent"][1:4] == [str(hello.agent()), "1", "listening"]
    for slot, pid in hello.workers().items():
        assert rows[f"app#{slot}"][1:4] == [str(pid), "1", "listening"]


def test_status_as_json_is_one_object(hello: Launched) -> None:
    status = json.loads(said(hello.command("status", "--json")))
    assert status["phase"] == "serving"
    assert status["pid"] == hello.pid
    assert status["address"] == hello.address
    assert {w["slot"]: w["worker_id"] for w in status["workers"]} == hello.workers()
    assert all(w["rss"] > 1_000_000 for w in (status, status["agent"], *status["workers"]))


def test_status_answers_while_the_cluster_boots(project: Project) -> None:
    launched = project.write(app=SLOW_START, agent=AGENT).start("--workers", "2")
    wait_until(lambda: (launched.status() or {}).get("phase") == "starting the app workers", "the workers boot")
    status = json.loads(said(launched.command("status", "--json")))
    assert [w["state"] for w in status["workers"]] == ["starting", "starting"]
    assert status["agent"]["state"] == "listening"
    assert "starting the app workers" in " ".join(said(launched.command("status")).split())


def test_status_tells_of_a_booting_agent(project: Project) -> None:
    launched = project.write(app=HELLO, agent="import time\ntime.sleep(600)\n" + AGENT).start("--workers", "2")
    wait_until(launched.status, "the master answers")
    status = json.loads(said(launched.command("status", "--json")))
    assert status["phase"] == "starting the agent"
    assert [w["worker_id"] for w in status["workers"]] == [None, None]


@pytest.mark.parametrize("command", ["status", "stop", "reload"])
def test_a_command_without_a_running_cluster_prints_one_line_and_ends_with_code_1(
    project: Project, command: str
) -> None:
    assert f"no cluster in {project.folder} is running" in complaint(project.command(command))
    assert 'no cluster named "egg" is running' in complaint(project.command(command, "--name", "egg"))


def test_what_a_killed_master_left_behind_is_no_cluster(hello: Launched) -> None:
    hello.process.kill()
    hello.process.wait()
    assert "is running" in complaint(hello.command("status"))


# -- stop ----------------------------------------------------------------------------------------------------


def test_stop_waits_for_the_end_and_then_there_is_nothing_to_stop(hello: Launched) -> None:
    pids = [hello.pid, *hello.workers().values()]
    assert said(hello.command("stop")).splitlines()[-1] == f"{hello.folder.name} stopped"
    assert [pid for pid in pids if psutil.pid_exists(pid) and pid != hello.pid] == []
    assert hello.wait_exit() == 0
    assert "is running" in complaint(hello.command("stop"))


def test_stop_ends_a_cluster_that_boots(project: Project) -> None:
    launched = project.write(app=SLOW_START).start("--workers", "2")
    wait_until(launched.status, "the master answers")
    said(launched.command("stop"))
    assert launched.wait_exit() == 0


def test_stop_during_a_reload_is_no_failure(project: Project) -> None:
    launched = project.write(app=GATED).start("--workers", "2", "--app-close-timeout", "500").wait_ready()
    reload = in_background(launched, "reload")
    wait_until(lambda: successor(launched), "a new worker starts beside the old one")
    said(launched.command("stop"))
    assert launched.wait_exit() == 0
    assert reload.wait(20) == 1
    assert b"the cluster is closing" in reload.communicate()[1]


# -- reload ----------------------------------------------------------------------------------------------------


def in_background(launched: Launched, command: str) -> "subprocess.Popen[bytes]":
    """A command that is under way; its output is small enough for the pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "eggcluster", command],
        cwd=launched.folder,
        env=launched.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def successor(launched: Launched) -> int | None:
    status = launched.status()
    return next((w["successor"] for w in status["workers"] if w["successor"]), None) if status else None


class Client:
    """Asks again and again, each time over a new connection, and remembers what went wrong."""

    def __init__(self, address: str) -> None:
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._address = address
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._enough.is_set():
            try:
                answer = httpx.get(self._address, timeout=20)
                answer.raise_for_status()
                self.answers.append(answer.text)
            except httpx.HTTPError as error:
                self.failures.append(repr(error))


def test_reload_replaces_every_worker_while_requests_are_answered(hello: Launched) -> None:
    before, agent = hello.workers(), hello.agent()
    with Client(hello.address) as client:
        wait_until(lambda: client.answers, "the client is served")
        lines = said(hello.command("reload")).splitlines()
        served = len(client.answers)
        wait_until(lambda: len(client.answers) > served + 5, "the client is served by the new workers")
    after = hello.workers()
    assert not client.failures
    assert set(after) == {1, 2}
    assert not set(after.values()) & set(before.values())
    assert client.answers[-1] in {f"{slot}:{pid}" for slot, pid in after.items()}
    assert hello.agent() == agent
    assert [line.partition(":")[0] for line in lines] == [
        "reload started",
        "slot 1 of 2 reloaded",
        "slot 2 of 2 reloaded",
        "every slot has its new worker, still closing",
        "reload done",
    ]


def test_a_connection_whose_first_request_comes_while_its_worker_closes_is_answered(project: Project) -> None:
    launched = project.write(app=HELLO).start("--workers", "1").wait_ready()
    address = ("127.0.0.1", int(launched.address.rpartition(":")[2]))
    with socket.create_connection(address) as early:
        launched.get()  # it came later and was answered: the early one has been accepted
        launched.signal(signal.SIGTERM)
        wait_until(lambda: refuses(address), "nothing listens any more")
        early.sendall(b"GET / HTTP/1.1\r\nHost: cluster\r\n\r\n")
        assert early.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert launched.wait_exit() == 0


def refuses(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False


def test_reload_starts_the_new_worker_before_the_old_one_goes(project: Project) -> None:
    launched = project.write(app=GATED).start("--workers", "2").wait_ready()
    before = launched.workers()
    reload = in_background(launched, "reload")
    wait_until(lambda: successor(launched), "a new worker starts beside the old one")
    assert launched.workers() == before
    assert launched.get().status_code == 200
    (project.folder / "go").touch()
    assert reload.wait(20) == 0
    reload.communicate()
    assert not set(launched.workers().values()) & set(before.values())


def test_reload_takes_up_new_code(project: Project) -> None:
    launched = project.write(app=VERSIONED).start("--workers", "2").wait_ready()
    assert launched.get().text == "first"
    project.write(app=VERSIONED.replace("first", "second version"))
    said(launched.command("reload"))
    assert {launched.get().text for _ in range(10)} == {"second version"}


def test_a_new_version_that_does_not_boot_leaves_the_old_one_serving(project: Project) -> None:
    launched = project.write(app=VERSIONED).start("--workers", "2").wait_ready()
    before = launched.workers()
    launched.allows_traceback = True
    project.write(app=VERSIONED + "raise RuntimeError('half a deployment')\n")
    answer = launched.command("reload")
    assert answer.returncode == 1
    assert "reload stopped, the current workers go on" in answer.stdout
    assert f'File "{project.folder}/app.py", line {VERSIONED.count(chr(10)) + 1}' in answer.stderr
    assert "RuntimeError: half a deployment" in answer.stderr
    assert launched.workers() == before
    assert launched.get().text == "first"


def test_a_reload_says_which_options_stay_as_started(project: Project) -> None:
    (project.folder / "eggcluster.toml").write_text("workers = 1\n")
    launched = project.write(app=HELLO).start().wait_ready()
    assert "stay as started" not in said(launched.command("reload"))
    (project.folder / "eggcluster.toml").write_text("workers = 2\n")
    assert "changed: eggcluster.toml: workers (options stay as started" in said(launched.command("reload"))
    assert len(launched.workers()) == 1


def test_a_reload_after_one_that_failed_takes_up_the_repair(project: Project) -> None:
    launched = project.write(app=VERSIONED).start("--workers", "2").wait_ready()
    launched.allows_traceback = True
    project.write(app="broken =\n")
    assert launched.command("reload").returncode == 1
    project.write(app=VERSIONED.replace("first", "repaired"))
    said(launched.command("reload"))
    assert {launched.get().text for _ in range(10)} == {"repaired"}


def test_a_reload_asked_for_during_another_ends_after_its_own(project: Project) -> None:
    launched = project.write(app=GATED).start("--workers", "2").wait_ready()
    first = in_background(launched, "reload")
    wait_until(lambda: successor(launched), "the first reload is under way")
    second = in_background(launched, "reload")
    launched.wait_log("another one follows it")
    (project.folder / "go").touch()
    assert second.wait(20) == 0
    status = launched.status()
    assert status is not None
    assert [w["generation"] for w in status["workers"]] == [3, 3]
    assert first.wait(20) == 0
    for each in (first, second):
        each.communicate()


def test_a_reload_whose_master_is_killed_has_failed(project: Project) -> None:
    launched = project.write(app=GATED).start("--workers", "2").wait_ready()
    reload = in_background(launched, "reload")
    wait_until(lambda: successor(launched), "a new worker starts beside the old one")
    launched.process.kill()
    assert reload.wait(20) == 1
    assert b"ended before it answered" in reload.communicate()[1]


def test_a_reload_of_a_booting_cluster_is_refused(project: Project) -> None:
    launched = project.write(app=SLOW_START).start("--workers", "2")
    wait_until(lambda: (launched.status() or {}).get("phase") == "starting the app workers", "the workers boot")
    text = complaint(launched.command("reload"))
    assert text == "eggcluster: the cluster is starting the app workers; reload it when it serves"


@pytest.mark.parametrize("part", ["agent", "app workers"])
def test_what_a_booting_cluster_has_scheduled_is_not_known_yet(project: Project, part: str) -> None:
    slow = {"agent": "import time\ntime.sleep(600)\n" + AGENT} if part == "agent" else {}
    launched = project.write(app=SLOW_START, **slow).start("--workers", "2")
    wait_until(lambda: (launched.status() or {}).get("phase") == f"starting the {part}", f"the {part} boots")
    text = complaint(launched.command("schedules"))
    assert text == f"eggcluster: the cluster is starting the {part}; its schedules are known when it serves"


# -- daemon ------------------------------------------------------------------------------------------------


def test_a_daemon_serves_when_the_command_returns_and_ends_with_stop(project: Project) -> None:
    project.write(app=HELLO, agent=AGENT)
    text = said(project.command("start", "--daemon", "--port", "0", "--workers", "2"))
    (pid,) = project.masters()
    address = next(word for word in text.split() if word.startswith("http"))
    log = Path(project.environ["XDG_STATE_HOME"], "eggcluster", f"{project.folder.name}.log")
    assert f"(pid {pid}, log {log})" in text
    assert len(text.splitlines()) == 1
    assert httpx.get(address).status_code == 200
    assert os.getsid(pid) == pid  # it has left the terminal's session
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert len(family(pid)) == 3 + TEMPLATES
    said(project.command("stop"))
    assert not family(pid)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert "close done, exiting with code:0" in log.read_text()
    assert not Path(project.environ["EGG_RUNTIME_DIR"]).exists()


def test_a_daemon_that_does_not_boot_is_reported_and_leaves_nothing(project: Project) -> None:
    project.write(app="import no_such_module\n" + HELLO)
    answer = project.command("start", "--daemon", "--port", "0", "--workers", "2")
    assert answer.returncode == 1
    assert answer.stderr.count("could not start") == 1
    assert f'File "{project.folder}/app.py", line 1' in answer.stderr
    last = answer.stderr.splitlines()[-1]
    assert "the cluster did not start" in last
    assert "ModuleNotFoundError: No module named 'no_such_module'" in last
    assert not Path(project.environ["EGG_RUNTIME_DIR"]).exists()


def test_a_daemon_prints_only_the_report_of_this_start(project: Project) -> None:
    project.write(app="raise RuntimeError('yesterday')\napp = print\n")
    project.command("start", "--daemon", "--port", "0", "--workers", "1")
    project.write(app="raise RuntimeError('today')\napp = print\n")
    answer = project.command("start", "--daemon", "--port", "0", "--workers", "1")
    assert "today" in answer.stderr
    assert "yesterday" not in answer.stderr


def test_a_daemon_whose_log_cannot_be_written_is_refused(project: Project) -> None:
    log = Path(project.environ["XDG_STATE_HOME"], "eggcluster", f"{project.folder.name}.log")
    log.mkdir(parents=True)
    line = project.write(app=HELLO).refused("--daemon", "--port", "0")
    assert f"daemon: the log {log} cannot be written: Is a directory; set XDG_STATE_HOME" in line
    assert not Path(project.environ["EGG_RUNTIME_DIR"]).exists()


# -- finding the cluster that is meant -------------------------------------------------------------------------


@pytest.fixture
def pair(project: Project) -> tuple[Launched, Launched]:
    """Two clusters of one base directory, each with a pid file."""
    project.write(app=HELLO)
    left, right = (
        project.start("--workers", "1", "--name", name, "--pid-file", f"{name}.pid") for name in ("left", "right")
    )
    for name, launched in (("left", left), ("right", right)):
        wait_until(
            lambda name=name: b'"serving"' in project.command("status", "--name", name, "--json").stdout.encode(),  # type: ignore[misc]
            f"{name} serves",
        )
        assert launched.process.poll() is None
    return left, right


def test_clusters_are_told_apart_by_name_and_pid_file(project: Project, pair: tuple[Launched, Launched]) -> None:
    left, right = pair
    elsewhere = project.folder / "elsewhere"
    elsewhere.mkdir()
    text = complaint(project.command("status"), code=2)
    assert f"several clusters run in {project.folder}: left, right; choose one with --name" in text
    assert json.loads(said(project.command("status", "--json", "--name", "right")))["pid"] == right.pid
    assert json.loads(said(project.command("status", "--json", "--pid-file", "left.pid")))["pid"] == left.pid
    assert "is running; choose a running one with --name: " in complaint(
        project.command("status", "--base-dir", str(elsewhere))
    )
    said(project.command("stop", "--pid-file", "left.pid"))
    assert left.wait_exit() == 0
    found = json.loads(said(project.command("status", "--json", "--base-dir", str(project.folder))))
    assert found["pid"] == right.pid


def test_a_command_in_a_directory_that_is_gone_is_one_line(project: Project) -> None:
    gone = project.folder / "gone"
    gone.mkdir()
    script = f"rmdir {gone}; exec {sys.executable} -m eggcluster status"
    answer = subprocess.run(["sh", "-c", script], cwd=gone, env=project.environ, capture_output=True, text=True)
    assert "the current directory no longer exists; choose a cluster with --name" in complaint(answer, code=2)


# -- files ---------------------------------------------------------------------------------------------------


def test_the_runtime_directory_and_the_control_socket_are_private(hello: Launched) -> None:
    folder = Path(hello.environ["EGG_RUNTIME_DIR"]) / hello.folder.name
    control = folder / "control.sock"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(control.stat().st_mode) == 0o600
    assert stat.S_ISSOCK(control.stat().st_mode)


def test_a_runtime_directory_that_others_may_write_to_is_refused(project: Project) -> None:
    root = Path(project.environ["EGG_RUNTIME_DIR"])
    root.mkdir()
    root.chmod(0o777)
    assert f"the runtime directory {root} is not a private directory of this user" in project.write(app=HELLO).refused(
        "--port", "0"
    )
    root.rmdir()


def test_the_pid_file_holds_the_pid_and_goes_with_the_cluster(project: Project) -> None:
    path = project.folder / "egg.pid"
    launched = project.write(app=HELLO).start("--workers", "1", "--pid-file", "egg.pid").wait_ready()
    assert path.read_text() == f"{launched.pid}\n"
    assert [each.name for each in project.folder.glob("egg.pid*")] == ["egg.pid"]  # nothing half-written
    assert launched.close() == 0
    assert not path.exists()


@pytest.mark.parametrize("content", ["dead", "4711 nonsense", ""])
def test_a_stale_pid_file_is_replaced_as_a_whole(project: Project, content: str) -> None:
    path = project.folder / "egg.pid"
    path.write_text(f"{dead_pid()}\n" if content == "dead" else content)
    stale = path.open()  # a reader of the old file must not see the new one being written into it
    launched = project.write(app=HELLO).start("--workers", "1", "--pid-file", "egg.pid").wait_ready()
    assert path.read_text() == f"{launched.pid}\n"
    with stale:
        assert str(launched.pid) not in stale.read()


def test_a_pid_file_that_another_process_has_replaced_is_left_alone(project: Project) -> None:
    path = project.folder / "egg.pid"
    launched = project.write(app=HELLO).start("--workers", "1", "--pid-file", "egg.pid").wait_ready()
    path.write_text(f"{os.getpid()}\n")
    assert launched.close() == 0
    assert path.read_text() == f"{os.getpid()}\n"


def dead_pid() -> int:
    """A pid that was a process's a moment ago."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


# -- dev, version ----------------------------------------------------------------------------------------------


def test_dev_is_start_in_the_env_local(project: Project) -> None:
    launched = project.write(app=HELLO).start("--workers", "1", verb="dev").wait_ready()
    status = launched.status()
    assert status is not None
    assert status["env"] == "local"
    launched.get("/looked-for")
    launched.wait_log("GET /looked-for")  # the access log is on


def test_an_env_that_was_asked_for_wins_over_dev(project: Project) -> None:
    launched = project.write(app=HELLO).start("--workers", "1", "--env", "unittest", verb="dev").wait_ready()
    status = launched.status()
    assert status is not None
    assert status["env"] == "unittest"


def test_the_version_is_the_packages(project: Project) -> None:
    assert said(project.command("--version")).strip() == f"eggcluster, version {eggcluster.__version__}"


def test_help_lists_the_commands(project: Project) -> None:
    text = said(project.command("--help"))
    assert all(f"  {name} " in text for name in ("start", "dev", "status", "stop", "reload"))


def test_an_unknown_flag_is_refused_with_code_2(project: Project) -> None:
    answer = project.command("start", "--worker", "2")
    assert answer.returncode == 2
    assert "--workers" in answer.stderr
    assert "Traceback" not in answer.stderr
