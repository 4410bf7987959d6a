"""Variables of the environment that change Python itself: a cluster starts, reloads and stops as ever."""

import re
import sys

import httpx
import pytest

from tests.cluster.harness import AGENT, HELLO, Project
from tests.waiting import wait_until

# What containers and debugging sessions leave behind. Each says that it holds: a wrong name would be silent.
VARIABLES = {
    "PYTHONWARNINGS=error": "sys.warnoptions == ['error']",
    "PYTHONINSPECT=1": "sys.flags.inspect",
    "PYTHONDEVMODE=1": "sys.flags.dev_mode",
    "PYTHONASYNCIODEBUG=1": "asyncio.get_running_loop().get_debug()",
    "PYTHONOPTIMIZE=2": "sys.flags.optimize == 2",
    "PYTHONSAFEPATH=1": "sys.flags.safe_path",
    "PYTHONUNBUFFERED=1": "sys.stdout.write_through",
    "PYTHONFAULTHANDLER=1": "faulthandler.is_enabled()",
    "PYTHONDONTWRITEBYTECODE=1": "sys.dont_write_bytecode",
    "PYTHONIOENCODING=ascii": "sys.stdout.encoding == 'ascii'",
}
CHECK = """
import asyncio, faulthandler, sys

@{me}.on_start
async def check():
    if not ({holds}):
        raise RuntimeError("the variable does not hold")
"""


IN_ONE_PROCESS = ("PYTHONWARNINGS=error", "PYTHONINSPECT=1", "PYTHONDEVMODE=1", "PYTHONASYNCIODEBUG=1")


@pytest.mark.parametrize(
    ("mode", "variable"), [*(("process", each) for each in VARIABLES), *(("thread", each) for each in IN_ONE_PROCESS)]
)
def test_a_variable_of_pythons_changes_no_start_no_reload_and_no_stop(
    project: Project, mode: str, variable: str
) -> None:
    holds = VARIABLES[variable]
    name, _, value = variable.partition("=")
    project.environ[name] = value
    modules = {
        "app": HELLO + CHECK.format(me="app", holds=holds),
        "agent": AGENT + CHECK.format(me="agent", holds=holds),
    }
    cluster = project.write(**modules).start("--workers", "1", "--start-mode", mode).wait_ready()
    before = cluster.workers()
    with httpx.Client(trust_env=False) as client:  # its connection stays open: the drain has something to end
        assert client.get(cluster.address).status_code == 200
        assert cluster.command("reload", "--agent").returncode == 0
        wait_until(lambda: cluster.workers() not in ({}, before), "it is reloaded")
        assert cluster.command("stop").returncode == 0
    assert cluster.wait_exit(4) == 0
    assert "Traceback" not in cluster.log
    assert "SIGKILL" not in cluster.log
    ends = re.findall(r"(?:agent_worker|app_worker)#1:\d+ exited \((.*)\)", cluster.log)
    assert ends == ["code: 0, signal: None"] * 4, ends
    assert sys.platform != "linux" or "unclosed" not in cluster.log


def test_conda_exports_a_host_that_is_none(project: Project) -> None:
    said = project.write(app=HELLO).refused("--port", "0", HOST="x86_64-conda-linux-gnu")
    assert 'HOST: "x86_64-conda-linux-gnu" is not an address of this machine' in said
    assert "it is the environment variable HOST: unset it, or name the address with --host" in said


# As gevent does it, in what a worker notices: a running thread no longer finds itself, and locks are others.
GEVENT = """
import threading
saved = {}

def patch_all():
    saved["threading"] = threading.get_ident
    threading.get_ident = lambda: 0

def is_module_patched(name):
    return name in saved
"""


@pytest.mark.parametrize("module", ["app", "agent"])
def test_gevents_monkey_patch_is_refused_in_one_line(project: Project, module: str) -> None:
    (project.folder / "gevent").mkdir()
    (project.folder / "gevent" / "__init__.py").touch()
    (project.folder / "gevent" / "monkey.py").write_text(GEVENT)
    modules = {"app": HELLO, "agent": AGENT}
    modules[module] = "from gevent import monkey\nmonkey.patch_all()\n" + modules[module]
    cluster = project.write(**modules).start("--workers", "1")
    assert cluster.wait_exit(20) == 1
    said = [line for line in cluster.log.splitlines() if "monkey.patch" in line]
    assert len(said) == 1
    assert "could not start: the application calls gevent's monkey.patch_all(), which replaces" in said[0]
    for word in ("Traceback", "KeyError", "un-acquired"):
        assert word not in cluster.log


@pytest.mark.parametrize("mode", ["process", "thread"])
def test_too_few_open_files_are_named_with_a_number_of_workers_that_start(project: Project, mode: str) -> None:
    launcher = (sys.executable, "-c", LIMITED)
    cluster = project.write(app=HELLO).start("--workers", "64", "--start-mode", mode, launcher=launcher)
    assert cluster.wait_exit(20) == 2
    (line,) = cluster.log.splitlines()
    assert line.startswith("eggcluster: --workers: 64 workers take at least ")
    said = re.search(r"the limit is 256 \(ulimit -n\); raise it, or start at most (\d+)$", line)
    assert said, line
    most = project.start("--workers", said[1], "--start-mode", mode, launcher=launcher).wait_ready()
    assert "Too many open files" not in most.log
    assert "few file descriptors" not in most.log
    assert most.close() == 0


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.execv(sys.argv[1], sys.argv[1:])
"""
