"""A boot that fails: exit code 1, one report that shows the user's own file and line, and nothing left running."""

import re
import signal
from pathlib import Path

import pytest

import eggcluster
from tests.cluster.harness import AGENT, HELLO, Launched, Project
from tests.waiting import wait_until

OWN = str(Path(eggcluster.__file__ or "").parent)

# Each raises at the line marked HERE.
BROKEN_APPS = {
    "a syntax error": ("SyntaxError", "def api(scope, receive send):  # HERE\n    pass\n"),
    "an import error": (
        "ModuleNotFoundError: No module named 'sqlalchemi'",
        "import os\nimport sqlalchemi  # HERE\n" + HELLO,
    ),
    "an exception at import": (
        "KeyError: 'DATABASE'",
        "import os\nurl = os.environ['DATABASE']  # HERE\napp = print\n",
    ),
    "an exception in on_start": (
        "RuntimeError: no database",
        HELLO + "@app.on_start\ndef connect():\n    raise RuntimeError('no database')  # HERE\n",
    ),
    "an exception in an async on_start": (
        "RuntimeError: no database",
        HELLO + "@app.on_start\nasync def connect():\n    raise RuntimeError('no database')  # HERE\n",
    ),
    "an exception in FastAPI's lifespan": (
        "RuntimeError: no database",
        """
from contextlib import asynccontextmanager
from fastapi import FastAPI

@asynccontextmanager
async def lifespan(app):
    raise RuntimeError("no database")  # HERE
    yield

app = FastAPI(lifespan=lifespan)
""",
    ),
    "an exception in Starlette's lifespan": (
        "RuntimeError: no database",
        """
import contextlib
from starlette.applications import Starlette

@contextlib.asynccontextmanager
async def lifespan(app):
    raise RuntimeError("no database")  # HERE
    yield

app = Starlette(lifespan=lifespan)
""",
    ),
    "an exception in a bare callable's lifespan": (
        "RuntimeError: no database",
        """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        raise RuntimeError("no database")  # HERE
""",
    ),
}

BROKEN_AGENTS = {
    "a syntax error": ("SyntaxError", "agent = = 1  # HERE\n"),
    "an import error": ("ModuleNotFoundError: No module named 'aioredix'", AGENT + "import aioredix  # HERE\n"),
    "an exception in on_start": (
        "RuntimeError: no broker",
        AGENT + "@agent.on_start\nasync def connect():\n    raise RuntimeError('no broker')  # HERE\n",
    ),
}

# Each waits for ever at its boot, once it has made a file `waiting`.
MARK = "import asyncio, pathlib, time\ndef mark():\n    pathlib.Path('waiting').touch()\n"
SLOW_APPS = {
    "a blocked import": MARK + "mark()\ntime.sleep(600)\n" + HELLO,
    "an async on_start that never returns": (
        MARK + HELLO + "@app.on_start\nasync def wait():\n    mark()\n    await asyncio.sleep(600)\n"
    ),
    "a lifespan that never answers": (
        MARK + "async def app(scope, receive, send):\n    mark()\n    await asyncio.sleep(600)\n"
    ),
}
SLOW_AGENTS = {
    "a blocked import": MARK + "mark()\ntime.sleep(600)\n" + AGENT,
    "an async on_start that never returns": (
        MARK + AGENT + "@agent.on_start\nasync def wait():\n    mark()\n    await asyncio.sleep(600)\n"
    ),
}


def start(project: Project, *arguments: str) -> Launched:
    """A cluster of two workers that is to fail."""
    launched = project.start("--workers", "2", *arguments)
    launched.allows_traceback = True
    return launched


def report_of(launched: Launched) -> str:
    """The one report in the log of a boot that failed with exit code 1."""
    assert launched.wait_exit() == 1, launched.log
    assert launched.log.count("could not start") == 1, launched.log
    assert launched.log.count("Traceback") <= 1, launched.log
    return launched.log.partition("could not start: ")[2].partition(" INFO ")[0]


def assert_shows(report: str, path: Path, source: str) -> None:
    """The report names the marked line of the user's file, and no frame of ours or of the import system."""
    line = source[: source.index("# HERE")].count("\n") + 1
    assert f'File "{path}", line {line}' in report, report
    frames = re.findall(r'File "([^"]*)"', report)
    assert not [frame for frame in frames if frame.startswith(OWN) or "importlib" in frame], report


@pytest.mark.parametrize("case", BROKEN_APPS)
def test_a_broken_application_is_reported_once_with_its_own_line(project: Project, case: str) -> None:
    error, source = BROKEN_APPS[case]
    report = report_of(start(project.write(app=source)))
    assert error in report.splitlines()[0]
    assert_shows(report, project.folder / "app.py", source)


@pytest.mark.parametrize("case", BROKEN_AGENTS)
def test_a_broken_agent_is_reported_before_any_app_worker_is_started(project: Project, case: str) -> None:
    error, source = BROKEN_AGENTS[case]
    launched = start(project.write(app=HELLO, agent=source))
    report = report_of(launched)
    assert error in report.splitlines()[0]
    assert_shows(report, project.folder / "agent.py", source)
    assert "app_worker#" not in launched.log


def test_a_module_that_the_application_imports_is_shown_with_the_way_to_it(project: Project) -> None:
    settings = "debug = True\nkey = secret  # HERE\n"
    application = "import settings  # HERE\n" + HELLO
    report = report_of(start(project.write(app=application, settings=settings)))
    assert_shows(report, project.folder / "app.py", application)
    assert_shows(report, project.folder / "settings.py", settings)


def test_the_cause_of_an_exception_is_shown_without_our_frames_too(project: Project) -> None:
    source = HELLO + (
        "@app.on_start\ndef connect():\n"
        "    try:\n        app.messenger.broadcast('egg-ready')  # HERE\n"
        "    except Exception as error:\n        raise RuntimeError('no refresh') from error\n"
    )
    launched = start(project.write(app=source))
    assert launched.wait_exit() == 1
    assert "ReservedAction" in launched.log
    assert_shows(launched.log, project.folder / "app.py", source)


def test_the_members_of_an_exception_group_are_shown_without_our_frames_too(project: Project) -> None:
    source = HELLO + (
        "import asyncio\n"
        "async def refresh():\n    app.messenger.broadcast('egg-ready')  # HERE\n"
        "@app.on_start\nasync def connect():\n"
        "    async with asyncio.TaskGroup() as group: group.create_task(refresh())\n"
    )
    launched = start(project.write(app=source))
    assert launched.wait_exit() == 1
    assert "ReservedAction" in launched.log
    assert_shows(launched.log, project.folder / "app.py", source)


def test_a_file_of_the_user_whose_name_speaks_of_importing_is_shown(project: Project) -> None:
    source = "raise RuntimeError('no plugins')  # HERE\n"
    project.write(app="import importlib_of_plugins\n" + HELLO, importlib_of_plugins=source)
    assert f'File "{project.folder}/importlib_of_plugins.py", line 1' in report_of(start(project))


def test_a_factory_that_raises_is_reported_with_its_line(project: Project) -> None:
    source = "def create():\n    raise RuntimeError('no settings')  # HERE\n"
    report = report_of(start(project.write(app=source), "app:create", "--factory"))
    assert_shows(report, project.folder / "app.py", source)


def test_a_lifespan_that_says_failed_is_reported_in_its_words(project: Project) -> None:
    source = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is away"})
"""
    assert "the database is away" in report_of(start(project.write(app=source)))


def test_one_worker_of_two_that_fails_ends_the_boot_of_both(project: Project) -> None:
    source = HELLO + "@app.on_start\ndef connect():\n    if app.slot == 2: raise RuntimeError('no slot')  # HERE\n"
    launched = start(project.write(app=source, agent=AGENT))
    assert_shows(report_of(launched), project.folder / "app.py", source)
    assert "app_worker#2:" in launched.log.partition(" could not start")[0].splitlines()[-1]


@pytest.mark.parametrize(
    ("death", "said"),
    [
        ("import os; os._exit(3)", "code: 3, signal: None"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "code: None, signal: SIGKILL"),
    ],
)
def test_a_worker_that_dies_without_a_word_is_reported_with_how_it_ended(
    project: Project, death: str, said: str
) -> None:
    assert f"died while starting ({said})" in report_of(start(project.write(app=f"{death}\n{HELLO}")))


def test_an_agent_that_dies_without_a_word_is_reported_with_how_it_ended(project: Project) -> None:
    report = report_of(start(project.write(app=HELLO, agent="import os; os._exit(3)\n" + AGENT)))
    assert "died while starting (code: 3, signal: None)" in report


@pytest.mark.parametrize("case", SLOW_APPS)
def test_a_worker_that_never_gets_ready_ends_the_boot_at_its_timeout(project: Project, case: str) -> None:
    launched = start(project.write(app=SLOW_APPS[case]), "--app-start-timeout", "0.5")
    report = report_of(launched)
    assert "start timeout: not ready after 0.5s" in report


@pytest.mark.parametrize("case", SLOW_AGENTS)
def test_an_agent_that_never_gets_ready_ends_the_boot_at_its_timeout(project: Project, case: str) -> None:
    launched = start(project.write(app=HELLO, agent=SLOW_AGENTS[case]), "--agent-start-timeout", "0.5")
    assert "start timeout: not ready after 0.5s" in report_of(launched)
    assert "app_worker#" not in launched.log


def test_the_report_of_a_start_timeout_shows_where_the_worker_waited(project: Project) -> None:
    source = "import time\ntime.sleep(600)  # HERE\n" + HELLO
    launched = start(project.write(app=source), "--app-start-timeout", "2")
    assert_shows(report_of(launched), project.folder / "app.py", source)


@pytest.mark.parametrize("case", SLOW_APPS)
def test_sigterm_during_a_slow_boot_closes_at_once(project: Project, case: str) -> None:
    launched = project.write(app=SLOW_APPS[case], agent=AGENT).start("--workers", "2")
    wait_until((project.folder / "waiting").exists, "a worker is in the middle of its boot")
    launched.signal(signal.SIGTERM)
    assert launched.wait_exit(4) == 0  # less than the close timeout of 5 s


@pytest.mark.parametrize("case", SLOW_AGENTS)
def test_sigterm_during_the_agents_slow_boot_closes_at_once(project: Project, case: str) -> None:
    launched = project.write(app=HELLO, agent=SLOW_AGENTS[case]).start("--workers", "2")
    wait_until((project.folder / "waiting").exists, "the agent is in the middle of its boot")
    launched.signal(signal.SIGTERM)
    assert launched.wait_exit(4) == 0


def test_not_even_a_hail_of_signals_makes_the_master_leave_something_behind(project: Project) -> None:
    launched = project.write(app=HELLO, agent=AGENT).start("--workers", "2", "--pid-file", "egg.pid")
    wait_until((project.folder / "egg.pid").exists, "the master has taken the pid file")
    while launched.process.poll() is None:
        launched.signal(signal.SIGTERM)
    assert launched.process.returncode == 0
    assert not (project.folder / "egg.pid").exists()


def test_sigterm_during_a_boot_that_blocks_its_event_loop_closes_at_the_timeout(project: Project) -> None:
    source = MARK + HELLO + "@app.on_start\ndef wait():\n    mark()\n    time.sleep(600)\n"
    launched = project.write(app=source).start("--workers", "2", "--app-close-timeout", "300")
    wait_until((project.folder / "waiting").exists, "a worker is in the middle of its boot")
    launched.signal(signal.SIGTERM)
    assert launched.wait_exit(4) == 0
