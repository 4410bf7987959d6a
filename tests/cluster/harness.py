"""The real command in a directory of its own: started, asked, killed, and shown to have left nothing behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from eggcluster.kernel.unix_socket import connect_unix
from tests.waiting import DEADLINE, wait_until

HELLO = """
import os
from eggcluster import Application

async def api(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": f"{app.slot}:{os.getpid()}".encode()})

app = Application(api)
"""

AGENT = """
from eggcluster import Agent

agent = Agent()
"""

# Processes besides the workers. A whole run of the tests can do without the template (EGG_NO_TEMPLATE=1, which is
# passed on). With PRELOADED=1, applications start with `--preload`; tests of what is then different fail.
PRELOADED = os.environ.get("PRELOADED") == "1"
TEMPLATES = int(sys.platform == "linux" and os.environ.get("EGG_NO_TEMPLATE") != "1")
# Variables that set options.
STRIPPED = ("EGG_", "HOST", "PORT", "WEB_CONCURRENCY")


class Launched:
    """One `eggcluster start` (or another `verb`) under test.

    It inherits the file descriptors `fds`; `launcher` is a command line that runs the one behind it.
    """

    def __init__(
        self,
        folder: Path,
        arguments: list[str],
        environ: Mapping[str, str],
        verb: str = "start",
        fds: Sequence[int] = (),
        launcher: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.environ = dict(environ)
        self.log_path = folder / f"cluster{len(list(folder.glob('cluster*.log'))) or ''}.log"
        self.allows_traceback = False  # set it where the test itself makes the application raise
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*launcher, sys.executable, "-m", "eggcluster", verb, *arguments],
                cwd=folder,
                env=self.environ,
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    # -- what it is ----------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Another `eggcluster` command in the same directory."""
        return subprocess.run(
            [sys.executable, "-m", "eggcluster", *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def status(self) -> dict[str, Any] | None:
        """The master's answer on its control socket; None while there is none."""
        paths = list(Path(self.environ["EGG_RUNTIME_DIR"]).glob("*/control.sock"))
        if len(paths) != 1:
            return None
        try:
            with connect_unix(str(paths[0])) as sock, sock.makefile("rwb") as stream:
                stream.write(b'{"command": "status"}\n')
                stream.flush()
                answer = dict(json.loads(stream.readline())["done"])
                sock.shutdown(socket.SHUT_WR)
                stream.read()  # until the master has closed its end: a census counts what it has open
                return answer
        except (OSError, ValueError):
            return None

    @property
    def address(self) -> str:
        status = self.status()
        assert status is not None
        return str(status["address"])

    def agent(self) -> int | None:
        """The agent's pid, None while there is none that is ready."""
        status = self.status()
        assert status is not None
        return status["agent"]["worker_id"] if status["agent"]["state"] == "listening" else None

    def workers(self) -> dict[int, int]:
        """The pids of the listening app workers by slot."""
        status = self.status()
        assert status is not None, self.log[-5000:]
        return {w["slot"]: w["worker_id"] for w in status["workers"] if w["state"] == "listening"}

    # -- waiting ---------------------------------------------------------------------------------------------

    def wait_ready(self) -> "Launched":
        """Wait until the whole cluster serves."""

        def serving() -> bool:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"
            status = self.status()
            return status is not None and status["phase"] == "serving"

        wait_until(serving, "the cluster serves")
        return self

    def wait_exit(self, deadline: float = DEADLINE) -> int:
        """Wait for the master's end; gives its exit code."""
        return self.process.wait(deadline)

    def wait_log(self, text: str) -> str:
        """Wait until the log has `text`: only for what nothing else shows."""
        return wait_until(lambda: self.log if text in self.log else "", f"{text!r} in the log")

    # -- acting ------------------------------------------------------------------------------------------------

    def get(self, path: str = "/", **more: Any) -> httpx.Response:
        return httpx.get(f"{self.address}{path}", timeout=DEADLINE, **more)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_exit()

    # -- nothing left ------------------------------------------------------------------------------------------

    def family(self) -> list[psutil.Process]:
        """All living processes that this cluster started, wherever they have got to."""
        return family(self.pid)

    def assert_nothing_left(self) -> None:
        """No process, no socket, no pid file; and no traceback that the test did not ask for."""
        wait_until(lambda: not self.family(), "every process of the cluster is gone", 5)
        runtime = Path(self.environ["EGG_RUNTIME_DIR"])
        left = [str(path) for path in runtime.rglob("*")] if runtime.exists() else []
        assert not left or self.process.returncode == -signal.SIGKILL, left
        if not self.allows_traceback:
            assert "Traceback" not in self.log, self.log

    def end(self) -> None:
        """Whatever the test has left running."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(DEADLINE)
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


class Project:
    """A user's project in a temporary directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.launched: list[Launched] = []
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(STRIPPED) or k == "EGG_NO_TEMPLATE"},
            "EGG_RUNTIME_DIR": str(folder / "run"),
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def write(self, **files: str) -> Self:
        """Write modules: `app="..."` is app.py."""
        for name, text in files.items():
            (self.folder / f"{name}.py").write_text(text)
        return self

    def start(
        self,
        *arguments: str,
        verb: str = "start",
        fds: Sequence[int] = (),
        launcher: Sequence[str] = (),
        **environ: str,
    ) -> Launched:
        """`eggcluster start` on any free port, not waited for."""
        bound = {"--port", "-p", "--uds", "--fd", "--ports"} & {a.partition("=")[0] for a in arguments}
        more = [] if bound else ["--port", "0"]
        surroundings = {**self.environ, **environ}
        if PRELOADED and verb == "start" and "--start-mode" not in arguments:
            more.append("--preload")
        launched = Launched(self.folder, [*arguments, *more], surroundings, verb, fds, launcher)
        self.launched.append(launched)
        return launched

    def command(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Any `eggcluster` command, waited for."""
        return subprocess.run(
            [sys.executable, "-m", "eggcluster", *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def masters(self) -> list[int]:
        """The pids in the runtime directories. They find a daemon, which is not a child of the test."""
        found = Path(self.environ["EGG_RUNTIME_DIR"]).glob("*/cluster.json")
        return [json.loads(path.read_bytes())["pid"] for path in found]

    def end_daemons(self) -> None:
        """End what still runs without being a child of the test."""
        for pid in set(self.masters()) - {launched.pid for launched in self.launched}:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                assert any("egg" in part for part in process.cmdline()), process  # not a stranger's, used anew
                process.terminate()
                with contextlib.suppress(psutil.TimeoutExpired):
                    process.wait(DEADLINE)
                if process.is_running():
                    process.kill()
            wait_until(lambda pid=pid: not family(pid), "every process of the daemon is gone", 5)  # type: ignore[misc]

    def close(self) -> None:
        """The test is over: end everything; nothing may be left."""
        for launched in self.launched:
            launched.end()
        self.end_daemons()
        for launched in self.launched:
            launched.assert_nothing_left()

    def refused(self, *arguments: str, **environ: str) -> str:
        """The one line with which `eggcluster start` refuses bad options: exit code 2, no traceback."""
        answer = subprocess.run(
            [sys.executable, "-m", "eggcluster", "start", *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=30,
        )
        lines = answer.stderr.splitlines()
        assert answer.returncode == 2, (answer.returncode, answer.stderr)
        assert len(lines) == 1, answer.stderr
        assert not answer.stdout
        return lines[0]


def projects(folder: Path) -> Iterator[Project]:
    """A project for one test; afterwards everything is ended, and nothing may be left."""
    with contextlib.closing(project := Project(folder)):
        yield project


def family(master: int) -> list[psutil.Process]:
    """All living processes that a master started, wherever they have got to."""
    mark = f"EGG_CLUSTER_ID={master}-"
    return [process for process in psutil.process_iter() if _carries(process, mark)]


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return any(entry.startswith(mark) for entry in _environ(process.pid))
    except (psutil.Error, OSError):
        return False


def _environ(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
