"""A cluster under test, for plain (synchronous) tests: a `Cluster` in a thread of its own, with its log in a file.

Runs in the user's tests.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from eggcluster.cluster import Cluster, WorkerInfo
from eggcluster.errors import BootError, ControlError, OptionsError
from eggcluster.ipc.messenger import REQUEST_TIMEOUT, Messenger
from eggcluster.model.messages.message import Receiver

T = TypeVar("T")
_LISTENING = ("host", "port", "ports", "uds", "fd")
_count = itertools.count(1)


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="eggcluster-testing", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for `work` and return its result. If the wait is interrupted, as by Ctrl-C, cancel `work`."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the loop and the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class RunningCluster:
    """A running cluster. `url` is its address; `messenger` sends as the program that started it, from any thread.

    The master is a child process, which closes the cluster if this process dies. Its runtime directory is a temporary
    one, so no command finds it by accident.
    """

    def __init__(self, loop: LoopThread, cluster: Cluster, log: Path) -> None:
        self._loop = loop
        self._cluster = cluster
        self._log = log

    @property
    def url(self) -> str:
        return self._cluster.address

    @property
    def pid(self) -> int:
        """The master's pid."""
        return self._cluster.pid

    @property
    def workers(self) -> list[WorkerInfo]:
        """The listening app workers."""
        return self._cluster.workers

    @property
    def messenger(self) -> Messenger:
        return self._cluster.messenger

    @property
    def log(self) -> str:
        """What master, agent and app workers have written so far, to standard output, too."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def status(self) -> dict[str, Any]:
        """Return the cluster's state, as `eggcluster status --json` prints it. RequestTimeout after 5 seconds."""
        return self._loop.run(self._cluster.status())

    def reload(self, timeout: float = 300.0, *, agent: bool | None = None) -> None:
        """Reload, as `Cluster.reload` does; return when all workers are replaced."""
        self._loop.run(self._cluster.reload(timeout, agent=agent))

    def request(self, action: str, data: Any = None, *, to: Receiver, timeout: float = REQUEST_TIMEOUT) -> Any:
        """Send a request and wait for the answer, as `await messenger.request` does."""
        return self._loop.run(self.messenger.request(action, data, to=to, timeout=timeout))

    def __repr__(self) -> str:
        return f"<RunningCluster {self.url or 'not started'} master {self.pid}>"


@contextlib.contextmanager
def run_cluster(options: Mapping[str, Any]) -> Iterator[RunningCluster]:
    """Run a cluster for the time of a `with` block, on a free port of 127.0.0.1. Afterwards nothing is left of it.

    `options` are those of `Cluster`, and `environ`: variables to add to this process's. Raise OptionsError, BootError
    with the whole log, or ControlError if the cluster does not close in order.
    """
    directory = Path(tempfile.mkdtemp(prefix="eggcluster-"))
    loop = LoopThread()
    try:
        environ = {**os.environ, "EGG_RUNTIME_DIR": str(directory / "run"), **options.get("environ", {})}
        cluster = Cluster(**_complete(options), environ=environ)
        running = RunningCluster(loop, cluster, directory / "log")
        try:
            _start(running, loop, cluster, environ)
            yield running
        finally:
            code = _close(loop, cluster)
        if code:
            raise ControlError(f"its exit code is {code}; its log:\n\n{running.log}")
    finally:
        loop.close()
        shutil.rmtree(directory)


def _complete(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with a name and a free port, where the test does not say where to listen."""
    given = {key: value for key, value in options.items() if key != "environ" and value is not None}
    if not any(key in given for key in _LISTENING):
        given |= {"host": "127.0.0.1", "port": 0}
    return {"name": f"pytest-{os.getpid()}-{next(_count)}", "workers": 2, **given}


def _start(running: RunningCluster, loop: LoopThread, cluster: Cluster, environ: Mapping[str, str]) -> None:
    with open(running._log, "wb") as output:
        try:
            loop.run(cluster.start(output=output.fileno(), environ=environ))
        except OptionsError:
            raise
        except BootError as error:
            raise BootError(_report(error, running.log)) from None


def _report(error: BootError, log: str) -> str:
    """Return the report of a failed boot, then the log. The log mostly holds the report, too, indented: then only the
    report's first line."""
    lines = str(error).strip().splitlines()
    first = lines[:1] if all(line.strip() in log for line in lines) else lines
    return "\n".join((*first, "", log.strip())).strip()


def _close(loop: LoopThread, cluster: Cluster) -> int | None:
    """Close the cluster. A Ctrl-C while it closes is kept until it has closed."""
    interrupted: BaseException | None = None
    while True:
        try:
            code = loop.run(cluster.close())
        except KeyboardInterrupt as error:
            interrupted = error
            continue
        if interrupted is not None:
            raise interrupted
        return code
