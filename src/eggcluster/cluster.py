"""A cluster inside a program: `Cluster` runs the master as a child process, `start_cluster` runs it in this process.

Runs in the parent, which is a user's program or integration test.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from eggcluster.errors import BootError, ControlError, FrameError, OptionsError, RemoteError
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import Frame, read_limit
from eggcluster.ipc.messenger import Messenger
from eggcluster.ipc.worker_spec import send_first
from eggcluster.kernel.descriptors import open_standard_streams
from eggcluster.kernel.inherited_sockets import SD_LISTEN_FDS_START
from eggcluster.kernel.process_exit import wait_exited
from eggcluster.model.messages.role import PARENT, Role
from eggcluster.options import ClusterOptions, ResolvedOptions, parse_options

if TYPE_CHECKING:
    from eggcluster.master.master import Master


class WorkerInfo(msgspec.Struct, frozen=True):
    """A listening app worker, as the parent knows it."""

    slot: int
    worker_id: int
    generation: int


class _ClusterHandle:
    """The parent's view of its cluster, wherever the master runs."""

    def __init__(self) -> None:
        self.messenger = Messenger(Role.PARENT)
        self.address = ""
        self.workers: list[WorkerInfo] = []
        self._boot_result: asyncio.Future[None] | None = None

    async def status(self) -> dict[str, Any]:
        """Return the cluster's state, as `eggcluster status --json` prints it. RequestTimeout after 5 seconds."""
        status: dict[str, Any] = await self.messenger.request("status", to="master")
        return status

    async def reload(self, timeout: float = 300.0, *, agent: bool | None = None) -> None:
        """Replace the app workers, one slot after the other, new before old; return when all are replaced.

        If `agent` is true, the agent is replaced after the first of them; the new one starts once the old one is gone.
        If `agent` is None, it is replaced only if one of the files that its code came from has changed, or a link on
        the way to its directory.

        ControlError if a new worker does not boot; what has not been replaced stays. RequestTimeout after `timeout`
        seconds; the reload goes on. Cancelling ends only the waiting.
        """
        await self._request("reload", timeout, agent)

    async def _request(self, action: str, timeout: float, data: Any = None) -> None:
        try:
            await self.messenger.request(action, data, to="master", timeout=timeout)
        except RemoteError as error:
            raise ControlError(error.message) from None

    async def _attach(self, sock: socket.socket, options: ResolvedOptions) -> None:
        self._boot_result = asyncio.get_running_loop().create_future()
        channel = await Channel.open(
            sock, self._on_frames, self._on_closed, read_limit(options.max_message_bytes), runs=True
        )
        self.messenger.attach(channel, PARENT, options.max_message_bytes, options.max_queue_bytes, self._on_event)

    def _on_frames(self, frames: list[Frame]) -> None:
        for frame in frames:
            self.messenger.receive(frame)

    def _on_closed(self, failure: FrameError | None) -> None:
        self.messenger.detach()
        self._set_boot_result(BootError("the master ended before the cluster was ready"))

    def _on_event(self, action: str, data: Any) -> None:
        if action == "egg-ready":
            self._on_ready(data)
        elif action == "egg-workers":
            self._on_workers(data)
        elif action == "boot-failed":
            self._on_boot_failed(data)

    def _on_ready(self, data: dict[str, Any]) -> None:
        self.address = data["address"]
        self._set_boot_result(None)

    def _on_workers(self, data: list[dict[str, Any]]) -> None:
        self.workers = msgspec.convert(data, list[WorkerInfo])

    def _on_boot_failed(self, data: dict[str, Any]) -> None:
        report = data["report"]
        self._set_boot_result(OptionsError(*report.splitlines()) if data["bad_option"] else BootError(report))

    def _cancel_boot_result(self) -> None:
        """Drop the boot result: nothing waits for it any more, and asyncio would log an exception left in it."""
        if self._boot_result is not None:
            self._boot_result.cancel()

    def _set_boot_result(self, error: Exception | None) -> None:
        if self._boot_result is not None and not self._boot_result.done():
            if error is None:
                self._boot_result.set_result(None)
            else:
                self._boot_result.set_exception(error)


class Cluster(_ClusterHandle):
    """A cluster whose master is a child of this process. It runs for the time of an `async with` block.

    Takes the application's target or a `ClusterOptions`, and options by name. Inside the block `address` is the
    cluster's URL, `workers` is the list of listening workers, and `messenger` sends to all of them. Entering the block
    waits until the cluster is ready; it raises OptionsError or BootError. Leaving it closes the cluster in order; then
    `exit_code` is the master's exit code. If this process dies, the cluster closes.
    """

    def __init__(self, options: ClusterOptions | str | None = None, /, **more: Any) -> None:
        super().__init__()
        self._options_argument = options
        self._options_by_name = more
        self._process: subprocess.Popen[bytes] | None = None
        self._close_requested = False
        self.options: ResolvedOptions | None = None
        self.exit_code: int | None = None

    @property
    def pid(self) -> int:
        """The master's pid, 0 before the start."""
        return self._process.pid if self._process is not None else 0

    async def __aenter__(self) -> "Cluster":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def start(
        self, *, detached: bool = False, output: int | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        """Start the master and wait until the cluster is ready; after a failure or a cancellation nothing is left.

        `detached` puts the master into a session of its own; `output` is a file descriptor for its log. `environ`
        is its environment, from which options are read, too (None: this process's). Raises OptionsError or BootError;
        RuntimeError if it was called before: make a new object.
        """
        if self._process is not None:
            raise RuntimeError("this Cluster was started before; make a new one")
        open_standard_streams()
        environ = os.environ if environ is None else environ
        self.options = parse_options(self._options_argument, **{"environ": environ, **self._options_by_name})
        self._process, sock = _spawn_master(self.options, detached, output, environ)
        try:
            await self._attach(sock, self.options)
            assert self._boot_result is not None
            await self._boot_result
        except BaseException:
            await self.close()
            raise

    async def close(self) -> int | None:
        """Close the cluster in order and wait for the master's end; return its exit code, None before the start.

        May be called again. Cancelling ends only the waiting.
        """
        if self._process is not None and self.exit_code is None:
            if not self._close_requested:  # a second signal would cut the closing short
                self._close_requested = True
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(signal.SIGTERM)
            self.exit_code = await wait_exited(self._process)
        return self.exit_code

    async def wait_closed(self) -> int:
        """Wait until the cluster has ended, for any reason; return the master's exit code.

        RuntimeError before the start. Cancelling ends only the waiting.
        """
        if self._process is None:
            raise RuntimeError("the cluster has not been started")
        if self.exit_code is None:
            self.exit_code = await wait_exited(self._process)
        return self.exit_code


class LocalCluster(_ClusterHandle):
    """A cluster whose master runs in this process. `start_cluster` makes it; leaving `async with` closes it."""

    def __init__(self, master: "Master", task: "asyncio.Task[int]") -> None:
        super().__init__()
        self.master = master
        self.options = master.options
        self._task = task

    async def close(self) -> int:
        """Close the cluster in order and wait for its end; return the exit code.

        May be called again. Cancelling ends only the waiting.
        """
        if not self._task.done():
            self.master.close()
        return await self.wait_closed()

    async def wait_closed(self) -> int:
        """Wait until the cluster has ended, for any reason; return the exit code. Cancelling ends only the waiting."""
        return int(await asyncio.shield(self._task))

    async def __aenter__(self) -> "LocalCluster":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


async def start_cluster(options: ClusterOptions | str | None = None, /, **more: Any) -> LocalCluster:
    """Run the master in this process and event loop; return when the cluster is ready (as Egg's `startCluster`).

    The master handles the process's signals until the cluster has closed: SIGTERM, SIGINT and SIGQUIT close it. Wait
    for the cluster's end with `wait_closed()`, or end it with `close()`. Raises OptionsError or BootError; nothing is
    left then. Cancelling closes what has been started.
    """
    from eggcluster.master.master import Master

    open_standard_streams()
    resolved = parse_options(options, **more)
    ours, theirs = socket.socketpair()
    master = Master(resolved, parent=theirs)
    task = asyncio.get_running_loop().create_task(_run(master))
    cluster = LocalCluster(master, task)
    try:
        await cluster._attach(ours, resolved)
        assert cluster._boot_result is not None
        pending: set[asyncio.Future[Any]] = {cluster._boot_result, task}
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()  # raises OptionsError for a port or a name that is taken
        await cluster._boot_result
    except BaseException:
        with contextlib.suppress(OptionsError):
            await cluster.close()
        cluster._cancel_boot_result()
        theirs.close()  # a master that could not bind its listeners has not taken it over
        raise
    return cluster


async def _run(master: "Master") -> int:
    return int(await master.run())


def _spawn_master(
    options: ResolvedOptions, detached: bool, output: int | None, environ: Mapping[str, str]
) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """Start a master as a child; return its process and the parent's end of the channel."""
    ours, theirs = socket.socketpair()
    inherited = [options.fd] if options.fd is not None else []
    inherited += range(SD_LISTEN_FDS_START, SD_LISTEN_FDS_START + options.listen_fds)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "eggcluster.master", str(theirs.fileno())],
            pass_fds=(theirs.fileno(), *inherited),
            env=environ,
            start_new_session=detached,
            # Ctrl-C at the terminal is for this program, which closes the cluster with SIGTERM. If the master got the
            # SIGINT, too, that SIGTERM would be a second signal, which cuts the closing short.
            process_group=None if detached else 0,
            stdin=subprocess.DEVNULL if detached else None,
            stdout=output,
            stderr=output,
        )
    with contextlib.suppress(BrokenPipeError):  # the master died at once; its exit code says why
        send_first(ours, options)
    return process, ours
