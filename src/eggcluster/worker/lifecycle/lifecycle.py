"""The lifecycle of a worker: boot, report, serve, close. Runs in the agent and in the app workers."""

import asyncio
import contextlib
import contextvars
import logging
import socket
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator
from typing import Any

from eggcluster import __version__
from eggcluster.errors import BootError, FrameError, MessengerClosed, OptionsError
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import Frame, encode_frame, read_limit
from eggcluster.ipc.handler_progress import HandlerProgress
from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.tasks import is_cancellation
from eggcluster.logs import application_booted, application_boots, name_speakers
from eggcluster.model.lives.phase import ExitCode
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import Address, Role
from eggcluster.wording import described
from eggcluster.worker.context.hooks import Hooks
from eggcluster.worker.context.worker_context import WorkerContext
from eggcluster.worker.engines.engine import Load
from eggcluster.worker.lifecycle.boot_report import BootTimes, ImportTimes, describe_failure
from eggcluster.worker.lifecycle.close_request import ClosedDuringImport, CloseRequest, report_at
from eggcluster.worker.lifecycle.heartbeats import HeartbeatWriter, StartWatch, send_from_thread
from eggcluster.worker.lifecycle.monkey_patches import refuse_patched_threads

_logger = logging.getLogger("eggcluster.worker")
MAX_RESUMES = 16  # how often the event loop of a closing worker goes on after the application has ended it
CLOSE_RESERVE = 1.0  # seconds of the close timeout that are kept for lifespan shutdown and on_close


class Lifecycle(ABC):
    """One worker from its boot to its end. A subclass defines what is booted and closed."""

    start_report: str  # the lifecycle message that says "started"

    def __init__(
        self, spec: WorkerSpec, sock: socket.socket, context: WorkerContext, close_request: CloseRequest
    ) -> None:
        self.spec = spec
        self.options = spec.options
        self.times = BootTimes(spec.forked_at)
        self.context = context
        self.messenger = context.messenger
        self._sock = sock
        self.heartbeat_page = HeartbeatPage(spec.heartbeat_fd)
        self._channel: Channel | None = None
        self.has_master = True
        self._close_request = close_request
        agent = spec.role == Role.AGENT.value
        close_request.limit = (self.options.agent_close_timeout if agent else self.options.app_close_timeout) / 1000
        self._closing = asyncio.Event()
        self._close_began = 0.0
        self._close_failed = False
        self._hooks: Hooks | None = None
        self._ready: asyncio.Task[None] | None = None
        self._booting: Coroutine[Any, Any, None] | None = None
        self._watch: StartWatch | None = None
        self._watch_sock: socket.socket | None = None

    @abstractmethod
    def load(self) -> Hooks:
        """Import the application and return its object. What it raises is the boot's failure."""

    async def start_sharing(self) -> None:
        """Start the shared clients and the shared state that the application has asked for so far."""
        if (sharing := self.context.sharing_in_use) is not None:
            await sharing.start()

    async def close_sharing(self) -> bool:
        """Close what `start_sharing` started, after everything that may use it; return False if that raised."""
        sharing = self.context.sharing_in_use
        return sharing is None or await sharing.close()

    @abstractmethod
    async def boot(self) -> None:
        """Start what was loaded. What it raises is the boot's failure."""

    @abstractmethod
    async def close(self) -> bool:
        """Close in order what was booted; return False if something failed. Called only after a successful boot.

        Each step is `contained`, so that the ones after it have their turn.
        """

    def close_by_itself(self) -> None:
        """Close as if the master had asked for it; the master replaces this worker."""
        self._close_request.set()

    def run(self, runner: asyncio.Runner, began: float) -> int:
        """Run until the close request; return the exit code. `began` is the start of the process (CLOCK_MONOTONIC).

        The application is imported while no loop runs: its modules may call `asyncio.run`, and Django refuses database
        access in a running loop.
        """
        self.context.start_as(self.spec, runner.get_loop())
        asyncio.set_event_loop(runner.get_loop())  # what `get_event_loop()` gives to a module while it is imported
        self.times.done("interpreter", until=began)
        self.times.done("eggcluster")
        self._start_watch()
        runner.run(self._attach())
        try:
            self._begin_log(runner.get_loop())
            with self._close_request.interruptible():
                self._hooks = self._import_application()
        except BaseException as error:  # also SystemExit: `sys.exit("no configuration")` is a failure to report
            if self._close_request.is_set:
                self._end_boot()
                raise ClosedDuringImport(0) from None  # also if the application turned it into another exception
            return runner.run(self._report_failure(error))
        try:
            # With what the modules set in the context.
            serving = runner.get_loop().create_task(self._serve(), context=contextvars.copy_context())
            return self._run_to_end(runner.get_loop(), serving)
        except BaseException:
            self._abort(self._hooks)
            raise

    def _run_to_end(self, loop: asyncio.AbstractEventLoop, serving: asyncio.Task[int]) -> int:
        """Run the loop until `serving` is done. An application that ends the loop at the order to close, by
        `loop.stop()` or `sys.exit()` in its handler of SIGTERM, does not end the drain: the loop goes on."""
        for _ in range(MAX_RESUMES):
            try:
                return loop.run_until_complete(serving)
            except BaseException as error:
                if serving.done() or loop.is_closed() or not self._close_request.is_set:
                    raise
                _logger.warning("closing: the application ended the event loop (%s), it goes on", described(error))
        return loop.run_until_complete(serving)

    async def _serve(self) -> int:
        self._close_request.notify(self._closing)
        try:
            booted = await self._boot_or_close()
        except BaseException as error:
            return await self._report_failure(error)
        self._end_boot()
        _logger.debug("%s", self.times)
        code = await self._live() if booted else ExitCode.CLOSED
        await self._leave()
        _logger.info("exit with code:%d", code)
        return code

    def start_details(self) -> dict[str, Any]:
        """Return the details of the start report."""
        return {"address": self.spec.listening_at}

    def current_load(self) -> Load:
        """Return what this worker serves at the moment."""
        return Load()

    async def _live(self) -> ExitCode:
        HeartbeatWriter(self.heartbeat_page, self.current_load).start()
        self._report(self.start_report, self.start_details())
        if self.options.reload:
            from eggcluster.worker.lifecycle.source_files import SourceReporter

            SourceReporter(self.options.base_dir, self._report).start()
        await self._closing.wait()
        self._close_began = asyncio.get_running_loop().time()
        assert self._hooks is not None
        self._hooks.closing.set()
        closed = await self.close()
        return ExitCode.CLOSED if closed and not self._close_failed else ExitCode.FAILED

    # -- boot ------------------------------------------------------------------------------------------

    async def _attach(self) -> None:
        role = Role(self.spec.role)
        limit = self.options.max_message_bytes
        self._channel = await Channel.open(
            self._sock, self._on_frames, self._on_channel_closed, read_limit(limit), runs=True
        )
        address, room = Address(role, self.spec.slot), self.options.max_queue_bytes
        progress = HandlerProgress(self.heartbeat_page.messages, may_be_fenced=self.options.start_mode != "process")
        self.messenger.attach(self._channel, address, limit, room, self._on_event, progress)

    def _import_application(self) -> Hooks:
        """Import what the options name. A signal ends the process meanwhile, because an import cannot be awaited."""
        _check_version(self.spec.version)
        with ImportTimes() if _logger.isEnabledFor(logging.DEBUG) else contextlib.nullcontext() as imports:
            try:
                for module in self.options.require if self.context.preloaded is None else ():
                    self.context.import_module(module)
                hooks = self.load()
            finally:  # the cause of whatever was raised
                refuse_patched_threads()
        self.times.done("imports", imports.slowest() if imports is not None else "")
        own = hooks.registrations
        own.slot, own.generation, own.worker_id = self.spec.slot, self.spec.generation, self.context.worker_id
        own.env = self.options.env
        own.report = self._report
        return hooks

    def _begin_log(self, loop: asyncio.AbstractEventLoop) -> None:
        if (preloaded := self.context.preloaded) is not None:  # the application has configured its own log already
            name_speakers(self.spec.speaker)
            preloaded.log_handler.run_in(loop)
            return
        self.context.configure_logs(self.options, self.spec.speaker, self.spec.log_level, loop)
        application_boots()

    async def _boot_or_close(self) -> bool:
        """Boot, but only until the close request; return False if that came first."""
        self._booting = self._boot()
        booting = asyncio.ensure_future(_captured(self._booting))
        closing = asyncio.ensure_future(self._closing.wait())
        await asyncio.wait({booting, closing}, return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        if booting.done():
            if error := booting.result():
                raise error
            return True
        booting.cancel()
        await asyncio.wait({booting})
        return False

    async def _boot(self) -> None:
        assert self._hooks is not None
        await self._hooks.run_fork()
        await self.boot()

    def _start_watch(self) -> None:
        """Watch the boot, unless a template has failed to import the application: that is reported at once."""
        if self.context.preloaded is not None and self.context.preloaded.error is not None:
            return
        agent = self.spec.role == Role.AGENT.value
        timeout = self.options.agent_start_timeout if agent else self.options.app_start_timeout
        # The watch has a socket of its own: the loop's may be closed when the report is due. Both are closed together;
        # otherwise the master would not see that the channel is closed.
        self._watch_sock = sock = self._sock.dup()

        def report(text: str) -> None:
            send_from_thread(sock, self._report_frame("boot-failed", {"report": text, "bad_option": False}))

        self._watch = StartWatch(self.spec.start_deadline, timeout, report, lambda: self._booting)

    def _end_boot(self) -> None:
        """The application has booted, or failed to: it has configured its logging, and is not watched any more."""
        application_booted()
        if self._watch is not None and self._watch_sock is not None:
            self._watch.stop()
            self._watch_sock.close()

    async def _report_failure(self, error: BaseException) -> int:
        """Send the report to the master, which prints one for the whole cluster, not one for each worker."""
        self._end_boot()
        details = {"report": describe_failure(error), "bad_option": isinstance(error, OptionsError)}
        if self.options.reload:
            from eggcluster.worker.lifecycle.source_files import sources_of_failure

            details["sources"] = sources_of_failure(self.options.base_dir, error)
        self._report("boot-failed", details)
        await self._leave()
        return ExitCode.FAILED

    # -- close -----------------------------------------------------------------------------------------

    def grace_left(self, timeout: float) -> float:
        """Return the seconds that a close timeout (ms) leaves for background work; `on_close` comes after it."""
        elapsed = asyncio.get_running_loop().time() - self._close_began
        return max(0.0, timeout / 1000 - min(CLOSE_RESERVE / 2, timeout / 4000) - elapsed)

    async def run_hooks_to_close(self, timeout: float) -> bool:
        """Stop what runs in the background and run `on_close`; return False if that raised. `timeout` is the whole
        close timeout, in ms."""
        assert self._hooks is not None
        grace = self.grace_left(timeout)
        elapsed = asyncio.get_running_loop().time() - self._close_began
        return await self._hooks.run_close(grace, report_at(timeout / 1000) - elapsed)

    @contextlib.contextmanager
    def contained(self, what: str) -> Iterator[None]:
        """A step of closing: what it raises is logged, and does not end the steps after it."""
        try:
            yield
        except BaseException as error:
            task = asyncio.current_task()
            if is_cancellation(error) and task is not None:
                task.uncancel()  # by an application that cancels every task it finds; the rest is closed all the same
            self._close_failed = True
            _logger.exception("closing: %s failed", what)

    def _abort(self, hooks: Hooks) -> None:
        """Close the channel: the event loop was ended from within, for instance by SystemExit, and nothing closes in
        order any more. If a plain background task ignores `closing`, the master then ends the worker."""
        hooks.closing.set()
        hooks.drained.set()
        if self._channel is not None:
            self._channel.close()

    async def _leave(self) -> None:
        """Wait until what was sent has left this process."""
        with contextlib.suppress(MessengerClosed):
            await self.messenger.drain()

    # -- the channel -----------------------------------------------------------------------------------

    def _report(self, action: str, details: dict[str, Any]) -> None:
        assert self._channel is not None
        with contextlib.suppress(MessengerClosed):
            self._channel.write(self._report_frame(action, details))

    def _report_frame(self, action: str, details: dict[str, Any]) -> bytes:
        source = Address(Role(self.spec.role), self.spec.slot).pack()
        return encode_frame(FrameKind.REPORT, Target.MASTER, [action, details], source=source)

    def _on_frames(self, frames: list[Frame]) -> None:
        for frame in frames:
            self.messenger.receive(frame)

    def _on_channel_closed(self, failure: FrameError | None) -> None:
        """Detach the messenger: the master has vanished, or has closed the channel. The lifeline or the master's
        SIGKILL ends this process."""
        if failure is not None:
            _logger.error("the master's channel broke: %s", failure)
        self.has_master = False
        self.messenger.detach()

    def _on_event(self, action: str, data: Any) -> None:
        if action == "egg-close":
            self.heartbeat_page.write_close_heard()
            self._close_request.order()
        elif action == "egg-ready" and self._hooks is not None:
            self._ready = asyncio.get_running_loop().create_task(self._hooks.run_ready())


def _check_version(master: str) -> None:
    """BootError if this worker's eggcluster is another version than the master's: a deploy has brought it along."""
    if master not in ("", __version__):
        text = f"this version of the application has eggcluster {__version__}, and the master runs {master}"
        raise BootError(f"{text}: a reload cannot exchange the master; stop the cluster and start it")


async def _captured(work: Coroutine[Any, Any, None]) -> BaseException | None:
    """Return what `work` raises, as a value: a task that raised SystemExit would end the loop at once."""
    try:
        await work
    except BaseException as error:
        return error
    return None
