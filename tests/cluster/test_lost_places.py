"""Directories that are full, read-only or gone, and closed standard streams: a process that needs them says so."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.cluster.harness import AGENT, HELLO, PRELOADED, TEMPLATES, Launched, Project
from tests.waiting import wait_until

LOG_CONFIG = """
[loggers]
keys=root
[handlers]
keys=broken
[formatters]
keys=
[logger_root]
level=INFO
handlers=broken
[handler_broken]
class=NoSuchHandler
args=()
"""


@pytest.fixture
def lost(project: Project, hello: Launched) -> Launched:
    """A cluster whose runtime directory was cleaned away."""
    shutil.rmtree(project.environ["EGG_RUNTIME_DIR"])
    return hello


@pytest.mark.parametrize("which", [[], ["--name", "{name}"], ["--base-dir", "."]])
def test_a_runtime_directory_that_is_gone_is_said_by_the_commands(
    project: Project, lost: Launched, which: list[str]
) -> None:
    for command in ("status", "stop", "reload"):
        answer = lost.command(command, *(word.format(name=lost.folder.name) for word in which))
        assert answer.returncode == 1
        assert len(answer.stderr.splitlines()) == 1
        assert f"runs, but {project.environ['EGG_RUNTIME_DIR']}/{project.folder.name} was removed" in answer.stderr
        assert f"end it with `kill {lost.pid}`" in answer.stderr


def test_a_cluster_whose_runtime_directory_is_gone_guards_and_closes(lost: Launched) -> None:
    [first, *_] = (p for p in lost.family() if "egg-app#1" in " ".join(p.cmdline()))
    first.kill()
    started = r"app_worker#\d:\d+ started \("
    wait_until(lambda: len(re.findall(started, lost.log)) == 3, "it is replaced")
    assert lost.close() == 0


def test_a_pid_file_whose_directory_is_gone_at_the_end_is_no_failure(project: Project) -> None:
    (project.folder / "pids").mkdir()
    launched = project.write(app=HELLO).start("--workers", "1", "--pid-file", "pids/egg.pid").wait_ready()
    assert (project.folder / "pids" / "egg.pid").read_text() == f"{launched.pid}\n"
    shutil.rmtree(project.folder / "pids")
    assert launched.close() == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_no_socket_takes_the_number_of_a_closed_standard_stream(project: Project, closed: str) -> None:
    shell = ("sh", "-c", f'exec "$0" "$@" {closed}')
    launched = project.write(app=HELLO, agent=AGENT).start("--workers", "2", launcher=shell).wait_ready()
    family = launched.family()
    assert len(family) == 3 + TEMPLATES + PRELOADED
    for pid in (launched.pid, *(process.pid for process in family)):
        for fd in range(3):
            place = os.readlink(f"/proc/{pid}/fd/{fd}")
            assert place in ("/dev/null", str(launched.log_path)), (pid, fd, place)
    assert launched.close() == 0


def test_a_program_without_standard_streams_gives_none_of_them_to_a_socket(project: Project) -> None:
    program = """
import asyncio, os, sys
from eggcluster import Cluster

for fd in range(3):
    os.close(fd)

async def main():
    async with Cluster("app:app", workers=1, port=0, agent=None) as cluster:
        status = await cluster.status()
        pids = [status["pid"], *(worker["worker_id"] for worker in status["workers"])]
        places = [os.readlink(f"/proc/{pid}/fd/{fd}") for pid in pids for fd in range(3)]
        open("places", "w").write("\\n".join(places))

asyncio.run(main())
"""
    project.write(app=HELLO, program=program)
    command = [sys.executable, "program.py"]
    assert subprocess.run(command, cwd=project.folder, env=project.environ, timeout=60).returncode == 0
    assert set((project.folder / "places").read_text().splitlines()) == {"/dev/null"}


def test_a_broken_logging_configuration_is_a_bad_option_of_start_cluster_too(project: Project) -> None:
    program = """
import asyncio
from eggcluster import OptionsError, start_cluster

async def main():
    try:
        await start_cluster("app:app", workers=1, port=0, log_config="broken.ini")
    except OptionsError as error:
        print(error)

asyncio.run(main())
"""
    project.write(app=HELLO, program=program)
    (project.folder / "broken.ini").write_text(LOG_CONFIG)
    answer = subprocess.run(
        [sys.executable, "program.py"],
        cwd=project.folder,
        env=project.environ,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert answer.stdout.startswith('log_config: "')
    assert "is not a logging configuration" in answer.stdout
    assert "Traceback" not in answer.stderr


def test_a_base_directory_that_is_not_utf8_is_refused(project: Project) -> None:
    folder = os.fsencode(project.folder) + b"/caf\xe9"
    os.mkdir(folder)
    with open(os.path.join(folder, b"app.py"), "w") as file:
        file.write(HELLO)
    line = project.refused("--base-dir", os.fsdecode(folder), "--no-agent", "--name", "cafe")
    assert line.startswith("eggcluster: --base-dir: ")
    assert line.endswith("is not UTF-8; use a name that is")
