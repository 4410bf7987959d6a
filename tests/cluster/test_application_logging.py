"""Applications that configure logging: their set-up holds, and the cluster can still be heard."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.harness import HELLO, Project

QUIET = {"version": 1, "handlers": {"none": {"class": "logging.NullHandler"}}, "root": {"handlers": ["none"]}}
FAILING = """
import logging, logging.config
from eggcluster import Application
{setup}

async def api(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    logging.getLogger("shop").warning("about to fail")
    logging.getLogger("uvicorn.error").info("said as under uvicorn")
    raise ValueError("no price")

app = Application(api)
"""
SETUPS = {
    "basicConfig": 'logging.basicConfig(filename="shop.log")',
    "dictConfig": """
logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL"}})""",
    "logging.disable": "logging.disable()",
}


@pytest.mark.parametrize("config", [{"version": 1}, QUIET], ids=["disables", "null handler"])
def test_a_boot_that_fails_is_reported_whatever_the_configuration(project: Project, config: dict[str, object]) -> None:
    project.write(app="raise KeyError('DATABASE')\napp = print\n")
    (project.folder / "log.json").write_text(json.dumps(config))
    launched = project.start("--workers", "1", "--log-config", "log.json")
    launched.allows_traceback = True
    assert launched.wait_exit() == 1
    assert launched.log.count("could not start") == 1
    assert "KeyError: 'DATABASE'" in launched.log


def test_a_boot_that_fails_is_reported_at_the_highest_level(project: Project) -> None:
    project.write(app="raise KeyError('DATABASE')\napp = print\n")
    launched = project.start("--workers", "1", "--log-level", "critical")
    launched.allows_traceback = True
    assert launched.wait_exit() == 1
    assert "KeyError: 'DATABASE'" in launched.log


@pytest.mark.parametrize("mode", ["process", "thread"])
@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)
def test_a_request_that_fails_is_reported_whatever_the_application_configures(
    project: Project, setup: str, mode: str
) -> None:
    project.write(app=FAILING.format(setup=setup))
    launched = project.start("--workers", "1", "--start-mode", mode, "--access-log").wait_ready()
    launched.allows_traceback = True
    assert launched.get("/").status_code == 500
    assert launched.command("reload").returncode == 0
    assert launched.close() == 0
    assert 'GET "/" failed' in launched.log
    assert "ValueError: no price" in launched.log
    assert '"GET / HTTP/1.1" 500' in launched.log
    assert "[master] reload done" in launched.log
    assert "[master] close done, exiting with code:0" in launched.log
    if "basicConfig" in setup:
        assert (project.folder / "shop.log").read_text() == "WARNING:shop:about to fail\n"
        assert "about to fail" not in launched.log
        assert launched.log.count("[app_worker#1] said as under uvicorn") == 1


@pytest.mark.parametrize("place", ["on_start", "lifespan"])
def test_an_application_may_configure_its_logging_while_it_starts(project: Project, place: str) -> None:
    setup = 'logging.basicConfig(filename="shop.log", level="INFO")\n    logging.info("configured")'
    hook = f"@app.on_start\ndef configure():\n    {setup}\n"
    lifespan = f"from contextlib import asynccontextmanager\n@asynccontextmanager\nasync def life(app):\n    {setup}\n"
    fastapi = f"{lifespan}    yield\nfrom fastapi import FastAPI\napp = FastAPI(lifespan=life)\n"
    project.write(app="import logging\n" + (HELLO + hook if place == "on_start" else fastapi))
    launched = project.start("--workers", "1").wait_ready()
    assert launched.close() == 0
    assert (project.folder / "shop.log").read_text() == "INFO:root:configured\n"
    assert "configured" not in launched.log


def test_a_log_config_names_the_speaker_of_each_line_the_access_logs_too(project: Project) -> None:
    config = {
        "version": 1,
        "formatters": {"own": {"format": "%(speaker)s|%(name)s|%(message)s"}},
        "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
        "root": {"level": "INFO", "handlers": ["own"]},
    }
    (project.folder / "log.json").write_text(json.dumps(config))
    project.write(app=HELLO + "import logging\nlogging.getLogger('shop').info('imported')\n")
    launched = project.start("--workers", "1", "--access-log", "--log-config", "log.json").wait_ready()
    assert launched.get("/").status_code == 200
    assert launched.close() == 0
    lines = launched.log.splitlines()
    assert all(line.split("|")[0] in ("master", "agent_worker", "app_worker#1") for line in lines), launched.log
    assert [line for line in lines if line.startswith("app_worker#1|eggcluster.access|127.0.0.1")]
    assert "app_worker#1|shop|imported" in lines


PROGRAM = """
import asyncio, logging
from eggcluster import start_cluster

logging.basicConfig(filename="program.log", format="%(name)s %(message)s", level="INFO")
before = [*logging.root.handlers], logging.lastResort, logging.getLogRecordFactory(), logging.root.level

async def main():
    async with await start_cluster("app:app", workers=1, port=0, agent=None, start_mode={mode!r}):
        pass

asyncio.run(main())
assert ([*logging.root.handlers], logging.lastResort, logging.getLogRecordFactory(), logging.root.level) == before
own = [name for name in logging.root.manager.loggerDict if name.startswith("eggcluster")]
assert not [name for name in own if logging.getLogger(name).handlers]
assert all(type(logging.getLogger(name)) is logging.Logger for name in own)
"""


@pytest.mark.parametrize("mode", ["process", "thread"])
def test_start_cluster_configures_nothing(project: Project, mode: str) -> None:
    project.write(app=HELLO, program=PROGRAM.format(mode=mode))
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=project.folder, env=project.environ, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"[master]" not in done.stderr
    assert "eggcluster.master close done" in Path(project.folder / "program.log").read_text()
