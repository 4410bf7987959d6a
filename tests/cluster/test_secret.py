"""`eggcluster.secret` with real workers: one key for all, whatever is replaced, and no other process sees it."""

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.cluster.harness import TEMPLATES, Launched, Project
from tests.cluster.remote import connect, obedient
from tests.waiting import wait_until

MODES = [
    "--start-mode process",
    "--start-mode thread",
    *(["--start-mode interpreter"] if sys.version_info >= (3, 14) else []),
    *(["--preload"] if TEMPLATES else []),
]
DERIVED = "return eggcluster.secret('cookies').hex()"
OF_THE_AGENT = "return await messenger.request('run', [given, None], to='agent')"


# Here the modules are shared by workers that are threads, so no worker can be told what to run.
SAYS = """
import eggcluster
from eggcluster import Application

KEY = eggcluster.secret("cookies")  # where the module is imported, as for a setting

async def say(scope, receive, send):
    if scope["type"] != "http":
        return
    ours, agents = KEY, await app.messenger.request("key", to="agent")
    text = f"{app.slot} {ours.hex()} {agents}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": text})

app = Application(say)
"""
KEEPS = """
import eggcluster
from eggcluster import Agent

agent = Agent()

@agent.messenger.on("key")
def key(data):
    return eggcluster.secret("cookies").hex()
"""


def all_said(cluster: Launched) -> set[str]:
    """The keys that both app workers and the agent have derived."""
    said: dict[str, list[str]] = {}

    def both() -> bool:
        slot, *found = cluster.get().text.split()
        said[slot] = found
        return len(said) == 2

    wait_until(both, "an answer of each worker")
    return {key for found in said.values() for key in found}


def keys(cluster: Launched) -> set[str]:
    """The keys that the agent and all app workers derive."""
    found = set()
    for slot in sorted(cluster.workers()):
        with connect(cluster, slot) as worker:
            found.add(worker.tell(DERIVED))
            found.add(worker.tell(OF_THE_AGENT.replace("given", repr(DERIVED))))
    return found


@pytest.mark.parametrize("how", MODES)
def test_all_workers_have_one_key_even_after_a_reload(project: Project, how: str) -> None:
    cluster = project.write(app=SAYS, agent=KEEPS).start("--workers", "2", *how.split()).wait_ready()
    before = all_said(cluster)
    assert len(before) == 1
    assert cluster.command("reload", "--agent").returncode == 0
    assert all_said(cluster) == before


def test_replaced_workers_have_it_too(project: Project) -> None:
    cluster = obedient(project).start("--workers", "2").wait_ready()
    (before,) = keys(cluster)
    old_agent, old_workers = cluster.agent(), cluster.workers()
    assert old_agent is not None
    for pid in (old_agent, old_workers[1]):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: cluster.agent() not in (None, old_agent), "a new agent")
    wait_until(lambda: cluster.workers().get(1) not in (None, old_workers[1]), "a new worker")
    wait_until(lambda: len(cluster.workers()) == 2, "both workers")
    assert keys(cluster) == {before}


def test_a_secret_file_gives_the_same_key_at_the_next_start(project: Project) -> None:
    path = project.folder / "secret"
    path.write_bytes(bytes(range(32)))
    path.chmod(0o600)
    found = set()
    for _ in range(2):
        cluster = obedient(project).start("--workers", "1", "--secret-file", str(path)).wait_ready()
        found |= keys(cluster)
        cluster.close()
    assert len(found) == 1


def test_a_file_for_others_ends_the_start_in_one_line(project: Project) -> None:
    path = project.folder / "secret"
    path.write_bytes(bytes(32))
    path.chmod(0o644)
    line = obedient(project).refused("--secret-file", str(path))
    assert "--secret-file" in line
    assert "may be used by others (mode 0644); chmod 600 it" in line


def test_neither_command_lines_nor_environments_carry_it(project: Project) -> None:
    path = project.folder / "secret"
    path.write_bytes(b"0123456789abcdef" * 2)
    path.chmod(0o600)
    cluster = obedient(project).start("--workers", "1", "--secret-file", str(path)).wait_ready()
    (key,) = keys(cluster)
    for process in (psutil.Process(pid) for pid in (cluster.pid, cluster.agent(), *cluster.workers().values())):
        seen = " ".join((*process.cmdline(), Path(f"/proc/{process.pid}/environ").read_text()))
        assert "0123456789abcdef" not in seen
        assert key not in seen
