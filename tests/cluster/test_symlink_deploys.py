"""Deploys by a link, `current -> releases/r1`: workers belong to the release that is current when they start."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.harness import Launched, Project, projects
from tests.waiting import wait_until

RELEASE = """
import os
from eggcluster import Application

async def api(scope, receive, send):
    import version
    body = f"{version.release} {os.path.basename(os.getcwd())}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

app = Application(api)
"""
AGENT = """
import os
from eggcluster import Agent

agent = Agent()

@agent.on_start
def tell():
    with open(os.environ["TOLD"], "a") as file:
        print(os.path.basename(os.getcwd()), file=file)
"""


class Site(Project):
    """A project in `releases/r1` and `releases/r2`; commands run in `current`, as a shell there does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "current")
        self.root = folder
        self.environ |= {
            "EGG_RUNTIME_DIR": str(folder / "run"),
            "XDG_STATE_HOME": str(folder / "state"),
            "PWD": str(self.folder),
            "TOLD": str(folder / "told"),
        }
        for name in ("r1", "r2"):
            (folder / name).mkdir()
            (folder / name / "app.py").write_text(RELEASE)
            (folder / name / "agent.py").write_text(AGENT)
            (folder / name / "version.py").write_text(f"release = {name!r}\n")
        self.turn("r1")

    def start(self, *arguments: str, **more: Any) -> Launched:
        launched = super().start(*arguments, **more)
        os.link(launched.log_path, self.root / "cluster.log")
        launched.log_path = self.root / "cluster.log"
        return launched

    def turn(self, release: str) -> None:
        (self.root / "new").symlink_to(release)
        os.replace(self.root / "new", self.folder)

    def agents(self) -> list[str]:
        return (self.root / "told").read_text().split()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    for _ in projects(tmp_path / "unused"):
        site = Site(tmp_path)
        try:
            yield site
        finally:
            site.close()


@pytest.mark.parametrize("mode", ["process", "thread"])
@pytest.mark.parametrize("arguments", [(), ("--base-dir", "../current")], ids=["here", "by name"])
def test_a_reload_serves_the_release_that_is_current(site: Site, mode: str, arguments: tuple[str, ...]) -> None:
    cluster = site.start("-w", "2", "--start-mode", mode, *arguments).wait_ready()
    assert cluster.get().text == "r1 r1"
    site.turn("r2")
    told = cluster.command("reload")
    assert told.returncode == 0, told.stderr
    assert {cluster.get().text for _ in range(8)} == {"r2 r2"}
    assert site.agents() == ["r1", "r2"], "the agent was in the old release"
    site.turn("r1")
    cluster.signal(signal.SIGHUP)
    wait_until(lambda: {cluster.get().text for _ in range(8)} == {"r1 r1"}, "the first release is back")
    assert site.command("stop", "--base-dir", str(site.root / "current")).returncode == 0


def test_a_worker_that_dies_boots_again_when_the_old_release_is_removed(site: Site) -> None:
    cluster = site.start("-w", "1").wait_ready()
    (first,) = cluster.workers().values()
    site.turn("r2")
    shutil.rmtree(site.root / "r1")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: set(cluster.workers().values()) - {first}, "a new worker listens")
    assert cluster.get().text == "r2 r2"
    assert site.command("status").returncode == 0
    assert cluster.close() == 0


def test_the_interpreter_of_the_release_is_taken(site: Site) -> None:
    for name in ("r1", "r2"):
        folder = site.root / name / "bin"
        folder.mkdir()
        (folder / "python").write_text(f'#!/bin/sh\nTAKEN={name} exec {sys.executable} "$@"\n')
        (folder / "python").chmod(0o755)
        app = RELEASE.replace("version.release", "os.environ.get('TAKEN')")
        (site.root / name / "app.py").write_text(app)
    python = str(site.root / "r1" / "bin" / "python")
    code = f"import sys; sys.executable = {python!r}; del sys.argv[1:4]; from eggcluster.cli.main import main; main()"
    cluster = site.start("-w", "1", launcher=(sys.executable, "-c", code)).wait_ready()
    assert cluster.get().text == "r1 r1"
    site.turn("r2")
    assert cluster.command("reload").returncode == 0
    assert cluster.get().text == "r2 r2"
    shutil.rmtree(site.root / "r2" / "bin")
    assert cluster.command("reload").returncode == 0
    assert cluster.get().text == "r1 r2", "the master's own"
    assert "/current/bin/python was removed: the worker runs" in cluster.log
    assert cluster.close() == 0


def log_config(release: str) -> dict[str, Any]:
    handler = {"class": "logging.StreamHandler", "formatter": "own"}
    own = {"format": f"{release} %(speaker)s %(message)s"}
    return {"version": 1, "formatters": {"own": own}, "handlers": {"own": handler}, "root": {"handlers": ["own"]}}


# The options, what imports the module before and after the reload, and the release of the log configuration after it.
@pytest.mark.parametrize(
    ("how", "before", "after", "log"),
    [
        ((), "app_worker#1", "app_worker#1", "r2"),
        (("--preload",), "template", "template", "r2"),
        (("--start-mode", "thread"), "agent_worker", "app_worker#1", "r1"),  # there `logging` is the master's, too
    ],
    ids=["process", "preload", "thread"],
)
def test_required_modules_and_the_log_configuration_are_those_of_the_release(
    site: Site, how: tuple[str, ...], before: str, after: str, log: str
) -> None:
    for name in ("r1", "r2"):
        folder = site.root / name
        (folder / "log.json").write_text(json.dumps(log_config(name)))
        (folder / "tools.py").write_text(f"import logging\nlogging.getLogger('shop').error('required by {name}')\n")
    cluster = site.start("-w", "1", "--require", "tools", "--log-config", "log.json", *how).wait_ready()
    cluster.wait_log(f"r1 {before} required by r1")
    site.turn("r2")
    assert cluster.command("reload").returncode == 0
    cluster.wait_log(f"{log} {after} required by r2")
    assert cluster.close() == 0


def certificate(folder: Path, name: str) -> None:
    request = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *request.split()], cwd=folder, check=True, capture_output=True)


def served(cluster: Launched) -> str:
    host, _, port = cluster.address.removeprefix("https://").rpartition(":")
    return ssl.get_server_certificate((host, int(port)))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the test makes certificates with openssl")
@pytest.mark.parametrize("mode", ["process", "thread"])
def test_certificates_are_read_anew(site: Site, mode: str) -> None:
    for name in ("r1", "r2"):
        certificate(site.root / name, name)
    tls = ("--https-key", "key.pem", "--https-cert", "cert.pem")
    cluster = site.start("-w", "1", "--start-mode", mode, *tls).wait_ready()
    first = (site.root / "r1" / "cert.pem").read_text()
    assert served(cluster).split() == first.split()
    site.turn("r2")
    assert cluster.command("reload").returncode == 0
    assert served(cluster).split() == (site.root / "r2" / "cert.pem").read_text().split()
    certificate(site.root / "r2", "renewed")
    assert cluster.command("reload").returncode == 0
    assert served(cluster).split() == (site.root / "r2" / "cert.pem").read_text().split()
    assert cluster.close() == 0
