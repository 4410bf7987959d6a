"""The master: one inbox, one loop, one writer of the state. It never imports application code.

What is to be done is decided by the supervisor (`model/supervisor.py`); this module is told what happened, asks
it, and carries out what it answers.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Coroutine
from typing import Any

from eggcluster.errors import BootError, FrameError, MessengerClosed, OptionsError
from eggcluster.ipc.boot_order import BootOrder
from eggcluster.kernel.subreaper import become_subreaper, reap_adopted
from eggcluster.master.control import ControlServer
from eggcluster.master.event import (
    BootFailed,
    ChannelBroke,
    CloseRequested,
    Event,
    Exited,
    ReloadRequested,
    SignalReceived,
    Started,
)
from eggcluster.master.inbox import Inbox
from eggcluster.master.link import Link
from eggcluster.master.listeners import Listeners, detect_ports
from eggcluster.master.pid_file import PidFile
from eggcluster.master.progress import Progress
from eggcluster.master.runtime_dir import RuntimeDir
from eggcluster.master.signals import MasterSignals
from eggcluster.master.status import describe_cluster
from eggcluster.master.switchboard import Switchboard
from eggcluster.model.command import (
    Announce,
    CloseListeners,
    Command,
    Fork,
    Kill,
    PublishPids,
    ReloadEnded,
    ReportDeath,
    Say,
    Stop,
)
from eggcluster.model.message import Kind
from eggcluster.model.phase import ExitCode, Phase
from eggcluster.model.role import AGENT, PARENT, Role
from eggcluster.model.supervisor import Plan, Supervisor
from eggcluster.model.worker import AgentWorker, AppWorker, ExitReport, Worker, WorkerState
from eggcluster.modes.process import start_by_process
from eggcluster.modes.worker_handle import WorkerHandle
from eggcluster.options import ClusterOptions

LAST_WORDS = 1.0  # seconds that a dead worker's channel may take to deliver what it sent before it died
CHANNEL_LOST_GRACE = 5.0  # seconds that a worker may live on without its channel: it is about to exit, or astray

_logger = logging.getLogger("eggcluster.master")


class Master:
    """One cluster. `options` are resolved ones, from `parse_options`.

    `owns_process` says that this process is nothing but the master (then it takes the process title and adopts
    orphans); `parent` is the other end of a channel to the process that started it.
    """

    def __init__(
        self, options: ClusterOptions, *, owns_process: bool = False, parent: socket.socket | None = None
    ) -> None:
        self.options = options
        self.supervisor = Supervisor(_plan(options))
        self.inbox = Inbox()
        self.switchboard = Switchboard(options.workers, self._on_report, self._on_broken, self._on_ask)
        self.listeners: Listeners | None = None
        self.ready = asyncio.Event()
        self._owns_process = owns_process
        self._parent = parent
        self._cluster_id = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._handles: dict[Worker, WorkerHandle] = {}
        self._attending: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()  # those whose parent waits for the end of an order
        self._control: ControlServer | None = None
        self._closers: list[Progress] = []  # who asked for the end
        self._reloaders: list[Progress] = []  # who asked for new workers: a close ends it for them as a failure
        self._born = time.monotonic()
        self._started_at = time.time()

    # -- the main loop -----------------------------------------------------------------------------------

    async def run(self) -> ExitCode:
        """The life of a cluster: boot, guard, close. Gives the exit code; OptionsError for what cannot be bound."""
        with contextlib.ExitStack() as house:
            await self._move_in(house)
            self._carry_out(self.supervisor.boot(self._now()))
            while not self.supervisor.finished:
                event = await self.inbox.next(self.supervisor.next_deadline())
                commands = self._decide(event) if event is not None else []
                self._carry_out(commands + self.supervisor.tick(self._now()))
            await self._move_out()
        return self.supervisor.exit_code

    def _decide(self, event: Event) -> list[Command]:
        match event:
            case Started(AgentWorker() as agent):
                return self.on_agent_start(agent)
            case Started(worker):
                return self.on_app_start(worker)
            case BootFailed(worker, report, bad_option):
                worker.failure, worker.misused_option = report, bad_option
                return []
            case Exited(AgentWorker() as agent, exit):
                return self.on_agent_exit(agent, exit)
            case Exited(worker, exit):
                return self.on_app_exit(worker, exit)
            case ChannelBroke(worker, error):
                return self._on_channel_broke(worker, error)
            case SignalReceived(signal.SIGHUP):
                return self._reload(None)
            case SignalReceived(number):
                return self._on_close_signal(signal.Signals(number))
            case CloseRequested(progress):
                return self._close(progress)
            case ReloadRequested(progress):
                return self._reload(progress)

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Fork(AgentWorker() as agent):
                    self.fork_agent_worker(agent)
                case Fork(worker):
                    self.fork_app_workers(worker)
                case Stop(AgentWorker() as agent, grace):
                    self.kill_agent_worker(agent, grace)
                case Stop(worker, grace):
                    self.kill_app_workers(worker, grace=grace)
                case Kill(worker):
                    self._kill(worker)
                case Announce(worker):
                    self._announce(worker)
                case PublishPids():
                    self._publish_pids()
                case ReportDeath(worker, exit, state):
                    self._report_death(worker, exit, state)
                case CloseListeners():
                    self._close_listeners()
                case Say(level, text, progress):
                    self._say(level, text, progress)
                case ReloadEnded(failure):
                    self._end_progress(self._reloaders, failure)

    # -- moving in and out -------------------------------------------------------------------------------

    async def _move_in(self, house: contextlib.ExitStack) -> None:
        """Take signals, name, pid file and sockets; what was taken is given back in reverse, whatever happens."""
        options = self.options
        signals = MasterSignals(lambda number: self.inbox.put(SignalReceived(number)), self._reap, self._owns_process)
        house.enter_context(signals)  # first: a signal must not end the process while it holds anything else
        runtime_dir = RuntimeDir(options.name)
        house.callback(runtime_dir.release)
        runtime_dir.claim(options.base_dir)
        if options.pid_file is not None:
            pid_file = PidFile(options.pid_file)
            house.callback(pid_file.release)
            pid_file.claim()
        self.listeners = detect_ports(options)
        house.callback(self.listeners.close)
        if self._parent is not None:
            link = await self.switchboard.connect(self._parent, max_bytes=options.max_message_bytes)
            self._attend(self._watch_parent(link))
        if self._owns_process:
            self._take_process()
        self._control = await ControlServer.open(runtime_dir.control_socket, self)
        house.callback(self._control.close)
        _logger.info("=================== egg start =====================")
        _logger.info("%s: %s workers, env %s, pid %s", options.name, options.workers, options.env, os.getpid())

    def _take_process(self) -> None:
        import setproctitle

        setproctitle.setproctitle(f"egg-master: {self.options.name}")
        become_subreaper()

    async def _move_out(self) -> None:
        """All are gone. Tell the parent why, and let the last words leave."""
        self._end_progress(self._closers, None)
        if self.supervisor.boot_failure is not None:
            self._tell_parent_failure(self.supervisor.boot_failure)
        if self._control is not None:
            await self._control.finish(LAST_WORDS)
        if self._answering:
            await asyncio.wait(self._answering, timeout=LAST_WORDS)
        link = self.switchboard.parent
        if link is not None and link.channel is not None:
            with contextlib.suppress(MessengerClosed, TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await link.channel.drain()
            link.channel.close()
        for task in self._attending:
            task.cancel()  # such as the wait for a process that the kernel does not let go
        _logger.info("close done, exiting with code:%d", self.supervisor.exit_code)

    # -- agent and app workers: what happened --------------------------------------------------------------

    def on_agent_start(self, agent: Worker) -> list[Command]:
        """`agent-start` came: the agent is up."""
        commands = self.supervisor.started(agent, self._now())
        if agent.state is WorkerState.LISTENING:  # else it is being ended already
            _logger.info("%s started (%dms)", agent, self._age(agent))
            self.switchboard.go_live(agent)
        return commands

    def on_app_start(self, worker: Worker) -> list[Command]:
        """`app-start` came: an app worker listens."""
        commands = self.supervisor.started(worker, self._now())
        if worker.state is WorkerState.LISTENING:
            _logger.info("%s started at %s (%dms)", worker, worker.listening_at, self._age(worker))
            self.switchboard.go_live(worker)
        return commands

    def on_agent_exit(self, agent: Worker, exit: ExitReport) -> list[Command]:
        """The agent is known dead, its children included."""
        self._tell_parent("agent-exit", agent, exit)
        return self._bury(agent, exit)

    def on_app_exit(self, worker: Worker, exit: ExitReport) -> list[Command]:
        """An app worker is known dead, its children included."""
        self._tell_parent("app-exit", worker, exit)
        return self._bury(worker, exit)

    def _bury(self, worker: Worker, exit: ExitReport) -> list[Command]:
        self._handles.pop(worker, None)
        self.switchboard.disconnect(worker)
        if worker.state is WorkerState.STOPPING:
            _logger.info("%s exited (%s)", worker, exit)
        return self.supervisor.exited(worker, exit, self._now())

    def _on_channel_broke(self, worker: Worker, error: FrameError | None) -> list[Command]:
        if not worker.alive or worker.state is WorkerState.STOPPING:
            return []
        why = "closed its channel" if error is None else f"broke the protocol: {error}"
        _logger.error("%s %s", worker, why)
        worker.failure = worker.failure or f"{worker} {why}"
        return [Kill(worker)]

    def _on_close_signal(self, number: signal.Signals) -> list[Command]:
        if self.supervisor.phase >= Phase.APPS_STOP:
            _logger.warning("receive signal %s again", number.name)
            return self.supervisor.cut_short()
        _logger.info("receive signal %s, closing", number.name)
        return self._close(None)

    # -- agent and app workers: what to do -----------------------------------------------------------------

    def fork_agent_worker(self, agent: Worker) -> None:
        """Start an incarnation of the agent."""
        assert self.listeners is not None
        cluster_socket = self.listeners.cluster_socket
        fds = [cluster_socket.fileno()] if cluster_socket is not None else []
        order = self._order(agent, Role.AGENT, cluster_fd=fds[0] if fds else None)
        self._fork(agent, order, fds)

    def fork_app_workers(self, *workers: Worker) -> None:
        """Start incarnations in their slots, each with its slot's listeners."""
        assert self.listeners is not None
        for worker in workers:
            listeners = self.listeners.of_slot(worker.slot)
            address = self.listeners.address_of(worker.slot)
            order = self._order(worker, Role.APP, listeners=listeners, listening_at=address)
            worker.listening_at = address
            self._fork(worker, order, [listener.fd for listener in listeners])

    def kill_app_workers(self, *workers: Worker, grace: float) -> None:
        """Ask them to close; SIGKILL for the process trees of those that need longer than `grace` seconds."""
        for worker in workers:
            self._stop(worker, grace)

    def kill_agent_worker(self, agent: Worker, grace: float) -> None:
        """As `kill_app_workers`, for the agent."""
        self._stop(agent, grace)

    def close(self) -> None:
        """Close the cluster in order; returns at once, `run` ends when it is done."""
        self.inbox.put(CloseRequested())

    def _order(self, worker: Worker, role: Role, **details: Any) -> BootOrder:
        assert self.listeners is not None
        return BootOrder(
            role=role.value,
            slot=worker.slot,
            generation=worker.generation,
            cluster_id=self._cluster_id,
            options=self.options,
            start_deadline=worker.start_deadline,
            cluster_port=self.listeners.cluster_port,
            **details,
        )

    def _fork(self, worker: Worker, order: BootOrder, fds: list[int]) -> None:
        try:
            handle = start_by_process(order, fds)
        except OSError as error:
            worker.failure = f"{worker} could not be started: {error}"
            self.inbox.put(Exited(worker, ExitReport()))
            return
        worker.worker_id = handle.worker_id
        self._handles[worker] = handle
        _logger.debug("%s forked", worker)
        self._attend(self._watch(worker, handle))

    async def _watch(self, worker: Worker, handle: WorkerHandle) -> None:
        """Connect a worker's channel, and wait for its end."""
        link = await self.switchboard.connect(handle.channel, worker, self.options.max_message_bytes)
        exit = await handle.wait_exit()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await link.gone.wait()
        self.inbox.put(Exited(worker, exit))

    async def _watch_parent(self, link: Link) -> None:
        """A cluster that a program started ends with that program; a daemon stays."""
        await link.gone.wait()
        if not self.options.daemon:
            self.inbox.put(CloseRequested())

    def _stop(self, worker: Worker, grace: float) -> None:
        handle = self._handles.get(worker)
        if handle is not None:
            _logger.info("send kill SIGTERM to %s, will kill it after %dms", worker, grace * 1000)
            self._attend(self._stop_and_tell(worker, handle, grace))

    async def _stop_and_tell(self, worker: Worker, handle: WorkerHandle, grace: float) -> None:
        outcome = await handle.stop(grace=grace)
        _logger.debug("%s: stop was %s", worker, outcome.name.lower())

    def _kill(self, worker: Worker) -> None:
        handle = self._handles.get(worker)
        if handle is not None:
            _logger.warning("send kill SIGKILL to %s", worker)
            handle.kill()

    def _attend(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]] | None = None) -> None:
        """Run `work` as a task that is not lost to the garbage collector."""
        tasks = self._attending if tasks is None else tasks
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    # -- telling -------------------------------------------------------------------------------------------

    def _announce(self, worker: Worker | None) -> None:
        """`egg-ready`, with the cluster's address."""
        assert self.listeners is not None
        data = {"address": self.listeners.address, "port": self.listeners.port}
        if worker is not None:
            self.switchboard.tell([worker.address], "egg-ready", data)
            return
        elapsed = (time.monotonic() - self._born) * 1000
        _logger.info("%s started on %s (%dms)", self.options.name, self.listeners.address, elapsed)
        self.switchboard.tell([PARENT], "realport", data)
        self.switchboard.tell([PARENT], "egg-workers", self.workers())
        self.switchboard.tell(self.switchboard.everyone(), "egg-ready", data)
        self.ready.set()

    def _publish_pids(self) -> None:
        """The set of those who are there has changed: tell them, and the kernel."""
        if self.listeners is not None:
            self.listeners.steer([worker.slot for worker in self.supervisor.listening_apps()])
        listening = [worker.worker_id for worker in self.supervisor.listening_apps()]
        agent = self.supervisor.agent.current
        agents = [agent.worker_id] if agent is not None and self.supervisor.agent.listening else []
        apps = [address for address in self.switchboard.everyone() if address.role is Role.APP]
        self.switchboard.tell([AGENT], "egg-pids", listening)
        self.switchboard.tell(apps, "egg-pids", agents)
        self.switchboard.tell([PARENT], "egg-workers", self.workers())

    def workers(self) -> list[dict[str, Any]]:
        """The listening app workers, as the parent knows them."""
        return [
            {"slot": w.slot, "worker_id": w.worker_id, "generation": w.generation}
            for w in self.supervisor.listening_apps()
        ]

    def _report_death(self, worker: Worker, exit: ExitReport, state: str) -> None:
        current = ", ".join(str(app) for app in self.supervisor.listening_apps())
        _logger.error("%s died (%s, state: %s), current workers: [%s]", worker, exit, state, current)
        if worker.failure is not None and self._is_news(worker):
            _logger.error("%s could not start: %s", worker, worker.failure)
        action = "app-worker-died" if isinstance(worker, AppWorker) else "agent-worker-died"
        self._tell_parent(action, worker, exit)

    def _is_news(self, worker: Worker) -> bool:
        """During the boot one report is enough: the other workers fail for the same reason."""
        return self.supervisor.boot_failure in (None, worker)

    def _tell_parent(self, action: str, worker: Worker, exit: ExitReport) -> None:
        data = {"worker_id": worker.worker_id, "slot": worker.slot, "code": exit.code, "signal": exit.signal}
        self.switchboard.tell([PARENT], action, data)

    def _tell_parent_failure(self, worker: Worker) -> None:
        data = {"report": worker.failure or "", "bad_option": worker.misused_option}
        self.switchboard.tell([PARENT], "boot-failed", data)

    def _say(self, level: int, text: str, progress: bool) -> None:
        _logger.log(level, "%s", text)
        if progress:
            for asker in self._reloaders:
                asker.say(text)

    # -- orders from outside -------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The cluster's state as plain values; see `status.py`."""
        return describe_cluster(
            self.options, self.supervisor, self.switchboard, self.listeners, self._started_at, self._now()
        )

    def _close(self, progress: Progress | None) -> list[Command]:
        if progress is not None:
            self._closers.append(progress)
        commands = self.supervisor.close(self._now())
        if commands:
            _logger.info("send kill SIGTERM to app workers, will exit with code:%d", self.supervisor.exit_code)
        return commands

    def _reload(self, progress: Progress | None) -> list[Command]:
        if progress is not None:
            self._reloaders.append(progress)
        return self.supervisor.reload(self._now())

    def _end_progress(self, askers: list[Progress], failure: str | None) -> None:
        for asker in askers:
            asker.end(failure)
        askers.clear()

    def _close_listeners(self) -> None:
        if self.listeners is not None:
            self.listeners.close()

    # -- called by the switchboard and the signals -----------------------------------------------------------

    def _on_report(self, worker: Worker, action: str, details: dict[str, Any]) -> None:
        expected = "agent-start" if isinstance(worker, AgentWorker) else "app-start"
        if action == expected:
            self.inbox.put(Started(worker))
        elif action == "boot-failed":
            report, bad_option = str(details.get("report", "")), details.get("bad_option") is True
            self.inbox.put(BootFailed(worker, report, bad_option))
        else:
            raise FrameError(f'no report is called "{action}"')

    def _on_broken(self, worker: Worker, error: FrameError | None) -> None:
        """At a normal exit the channel closes a moment before the process ends: that is no event yet."""
        if error is not None:
            self.inbox.put(ChannelBroke(worker, error))
        elif worker in self._handles:
            asyncio.get_running_loop().call_later(CHANNEL_LOST_GRACE, self._check_lost, worker)

    def _check_lost(self, worker: Worker) -> None:
        if worker in self._handles:
            self.inbox.put(ChannelBroke(worker, None))

    def _on_ask(self, link: Link, request_id: int, action: str, data: Any) -> None:
        """A request to the master: anybody may ask for the status, only the parent may give orders."""
        if action == "status":
            self.switchboard.answer(link, request_id, Kind.REPLY, self.status())
        elif link.address is PARENT and action in ("close", "reload"):
            progress = Progress()
            order = CloseRequested(progress) if action == "close" else ReloadRequested(progress)
            self.inbox.put(order)
            self._attend(self._answer_order(link, request_id, progress), self._answering)
        else:
            text = f'the master does not answer "{action}"'
            self.switchboard.answer(link, request_id, Kind.FAILURE, ["NoHandler", text, ""])

    async def _answer_order(self, link: Link, request_id: int, progress: Progress) -> None:
        lines = [line async for line in progress.lines()]
        if progress.failure is not None:
            self.switchboard.answer(link, request_id, Kind.FAILURE, ["ControlError", progress.failure, ""])
        else:
            self.switchboard.answer(link, request_id, Kind.REPLY, lines)

    def _reap(self) -> None:
        """SIGCHLD: an adopted orphan may have ended. Not in somebody else's process, whose children they are."""
        if self._owns_process:
            reap_adopted({handle.worker_id for handle in self._handles.values()})

    # -- small things --------------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _age(self, worker: Worker) -> float:
        return (self._now() - worker.born) * 1000

    def failure(self) -> Exception | None:
        """Why the boot failed, as the exception for a parent program; None if it did not."""
        worker = self.supervisor.boot_failure
        if worker is None:
            return None
        report = worker.failure or f"{worker} died while starting"
        return OptionsError(report) if worker.misused_option else BootError(report)


def _plan(options: ClusterOptions) -> Plan:
    """The supervisor's part of the options, all times in seconds."""
    return Plan(
        workers=options.workers,
        app_start_timeout=options.app_start_timeout,
        agent_start_timeout=options.agent_start_timeout,
        app_close_timeout=options.app_close_timeout / 1000,
        agent_close_timeout=options.agent_close_timeout / 1000,
        close_timeout=options.close_timeout / 1000,
        replace_apps=options.env != "local",
        strict=options.strict,
    )
