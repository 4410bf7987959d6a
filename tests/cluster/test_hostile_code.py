"""Application code that does what it should not: it ends nothing of ours, and nothing is left behind."""

import signal
import subprocess
import sys

import pytest

from tests.cluster.harness import AGENT, HELLO, Project
from tests.waiting import wait_until

LOST_STDERR = """
import sys

class ToNowhere:
    def write(self, text): pass
    def flush(self): pass

sys.stderr = ToNowhere()
"""

POISON = """
import asyncio

@app.messenger.on("plain")
def plain(error): raise ERRORS[error]("oh")

@app.messenger.on("slow")
async def slow(error):
    await asyncio.sleep(0)
    raise ERRORS[error]("oh")

ERRORS = {"exit": SystemExit, "cancel": asyncio.CancelledError, "stop": GeneratorExit, "key": KeyboardInterrupt}

async def ask(scope, receive, send):
    action, _, error = scope["path"].strip("/").partition("/")
    if error:
        app.messenger.send_to_app(action, error)
        try:
            await app.messenger.request(action, error, to=f"app#{app.slot}", timeout=10)
        except Exception as raised:
            answer = f"{type(raised).__name__} {getattr(raised, 'kind', '')}"
    else:
        answer = str(app.generation)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer.encode()})

app.app = ask
"""


LOOK_AT_MY_FILES = """
import os
os.system("ls -l /proc/self/fd >> files")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_a_module_starts_while_it_is_imported_gets_none_of_our_sockets(project: Project) -> None:
    """It may be a daemon that outlives everybody, and a listener that it held would swallow connections."""
    project.write(app=LOOK_AT_MY_FILES + HELLO, agent=LOOK_AT_MY_FILES + AGENT)
    cluster = project.start("--workers", "2").wait_ready()
    files = (project.folder / "files").read_text()
    assert files.count(" 2 -> ") == 3
    assert "socket:" not in files
    assert "memfd:" not in files
    assert cluster.close() == 0


def test_a_lost_stderr_does_not_keep_a_worker_whose_master_has_gone(project: Project) -> None:
    cluster = project.write(app=LOST_STDERR + HELLO, agent=LOST_STDERR + AGENT).start("--workers", "2").wait_ready()
    cluster.signal(signal.SIGKILL)
    wait_until(lambda: not cluster.family(), "no process is left", 3)


def test_workers_that_are_all_stopped_end_with_their_master(project: Project) -> None:
    cluster = project.write(app=HELLO, agent=AGENT).start("--workers", "2").wait_ready()
    for process in cluster.family():
        process.suspend()
    cluster.signal(signal.SIGKILL)
    wait_until(lambda: not cluster.family(), "no process is left", 3)


@pytest.mark.parametrize("action", ["plain", "slow"])
def test_what_a_handler_raises_ends_no_worker_and_reaches_the_sender_of_the_request(
    project: Project, action: str
) -> None:
    cluster = project.write(app=HELLO + POISON, agent=AGENT).start("--workers", "2").wait_ready()
    cluster.allows_traceback = True
    kinds = {"exit": "SystemExit", "cancel": "CancelledError", "stop": "GeneratorExit", "key": "KeyboardInterrupt"}
    for error, kind in kinds.items():
        assert cluster.get(f"/{action}/{error}").text == f"RemoteError {kind}"
    assert {cluster.get().text for _ in range(20)} == {"1"}


@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_change_nothing(project: Project, stream: str) -> None:
    project.write(app=HELLO, agent=AGENT)
    command = f"exec {sys.executable} -m eggcluster start -w 2 -p 0 --pid-file pid {stream}"
    shell = subprocess.Popen(["sh", "-c", command], cwd=project.folder, env=project.environ, stderr=subprocess.DEVNULL)
    try:
        status = project.command("status", "--json")
        wait_until(lambda: '"serving"' in project.command("status", "--json").stdout, status.stderr)
    finally:
        shell.terminate()
    assert shell.wait(20) == 0


@pytest.mark.parametrize("source", ["import sys\nsys.exit('no configuration')", "raise ValueError('\\ud800' * 3)"])
def test_whatever_ends_an_import_is_reported_with_its_place(project: Project, source: str) -> None:
    cluster = project.write(app=f"{source}\n{HELLO}", agent=AGENT).start("--workers", "1")
    cluster.allows_traceback = True
    assert cluster.wait_exit() == 1
    assert "app.py" in cluster.log
    assert "could not start: SystemExit: no configuration" in cluster.log or "ValueError" in cluster.log
