"""The master: one inbox, one loop, one writer of the state. It never imports application code.

What is to be done is decided by the supervisor (`model/lives/supervisor.py`); this module is told what happened, asks
it, and carries out what it answers.
"""

import asyncio
import logging
import os
import random
import signal
import socket
import time
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.master.agent_records import AgentSources
from eggcluster.master.control.cluster_status import describe_cluster
from eggcluster.master.control.event_feed import EventFeed
from eggcluster.master.control.requests import MasterRequests
from eggcluster.master.events import (
    BootFailed,
    ChannelBroke,
    CloseRequested,
    Event,
    Exited,
    Inbox,
    Progress,
    ReloadRequested,
    SignalReceived,
    Started,
)
from eggcluster.master.notifier import Notifier
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.master.resources import LAST_WORDS, MasterResources
from eggcluster.master.supervisor_settings import supervisor_settings
from eggcluster.master.worker_manager import WorkerManager
from eggcluster.model.lives.commands import (
    Abort,
    CheckHealth,
    CloseListeners,
    Command,
    Fork,
    Kill,
    Log,
    NotifyReady,
    PublishPids,
    ReloadEnded,
    ReportDeath,
    Steer,
    Stop,
)
from eggcluster.model.lives.phase import ExitCode, Phase
from eggcluster.model.lives.roster import Slot
from eggcluster.model.lives.supervisor import Supervisor
from eggcluster.model.lives.worker import AgentWorker, ExitReport, Worker, WorkerState
from eggcluster.model.messages.role import Role
from eggcluster.model.steering.steering_plan import SlotView
from eggcluster.modes.starters import in_words
from eggcluster.options import ResolvedOptions
from eggcluster.wording import printable

_logger = logging.getLogger("eggcluster.master")


class Master:
    """One cluster. `options` are resolved ones, from `parse_options`.

    `owns_process` says that this process is nothing but the master (then it takes the process title and adopts
    orphans); `parent` is this master's end of a channel to the process that started it.
    """

    def __init__(
        self, options: ResolvedOptions, *, owns_process: bool = False, parent: socket.socket | None = None
    ) -> None:
        self.options = options
        self.supervisor = Supervisor(supervisor_settings(options), random.random)
        self.inbox = Inbox()
        self.feed = EventFeed()
        self.resources = MasterResources(options, owns_process=owns_process, parent=parent)
        self.reception = MasterRequests(self.inbox, self.status)
        self.switchboard = Switchboard(
            options.workers, self.reception.report, self._on_broken, self._on_ask, options.max_queue_bytes
        )
        self.worker_manager = WorkerManager(self.inbox, self.switchboard, options)
        self.announcer = Notifier(options.name, self.supervisor, self.switchboard)
        self._cluster_id = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._started_at = time.time()
        self._agent_sources = AgentSources(self.inbox)

    # -- the life of a cluster ---------------------------------------------------------------------------

    async def run(self) -> ExitCode:
        """Boot, guard, close. Gives the exit code; OptionsError for what turns out only now to be taken."""
        with self.resources:
            await self.resources.acquire(self, self.switchboard, self.worker_manager.reap)
            _logger.info("=================== egg start =====================")
            _logger.info("%s", self._summary())
            self._carry_out(self.supervisor.boot(self._now()))
            while not self.supervisor.finished:
                event = await self.inbox.next(self.supervisor.next_deadline())
                commands = self._decide(event) if event is not None else []
                self._carry_out(commands + self.supervisor.tick(self._now()))
            await self._move_out()
        return self.supervisor.exit_code

    def _decide(self, event: Event) -> list[Command]:
        self.feed.happened(event)
        match event:
            case Started(AgentWorker() as agent, sources):
                self._agent_sources.stamps = sources
                return self.on_agent_start(agent)
            case Started(worker):
                return self.on_app_start(worker)
            case BootFailed(worker, report, bad_option):
                return self.supervisor.boot_failed(worker, report, bad_option)
            case Exited(AgentWorker() as agent, exit):
                return self.on_agent_exit(agent, exit)
            case Exited(worker, exit):
                return self.on_app_exit(worker, exit)
            case ChannelBroke(worker, error):
                return self._on_channel_broke(worker, error)
            case SignalReceived(signal.SIGHUP):
                _logger.info("receive signal SIGHUP, reloading")
                return self._reload(None, None)
            case SignalReceived(number):
                return self._on_close_signal(signal.Signals(number))
            case CloseRequested(why, progress):
                _logger.info("%s, closing", why)
                return self._close(progress)
            case ReloadRequested(agent, progress):
                return self._reload(agent, progress)

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
                    self.worker_manager.kill(worker)
                case Abort(worker):
                    self.worker_manager.abort(worker)
                case NotifyReady(worker):
                    self.announcer.ready(self.resources.listeners, worker)
                case PublishPids():
                    self._steer()
                    self.announcer.pids()
                case CheckHealth():
                    heartbeats = self.worker_manager.look(memory=bool(self.options.max_rss))
                    self._carry_out(self.supervisor.health_checked(heartbeats, self._now()))
                case Steer():
                    self._steer()
                case ReportDeath(worker, exit, state):
                    self.announcer.death(worker, exit, state)
                case CloseListeners():
                    self.resources.close_listeners()
                case Log(level, text, progress):
                    self._say(level, text, progress)
                case ReloadEnded(failure):
                    self.reception.end_reload(failure)
            self.feed.ordered(command)

    async def _move_out(self) -> None:
        """All are gone: tell those who wait for it, and why."""
        if self.supervisor.boot_failure is not None:
            self.announcer.boot_failure(self.supervisor.boot_failure)
        await self.reception.end_close(LAST_WORDS)
        await self.resources.flush_last_messages(self.switchboard)
        self.worker_manager.abandon()
        if self.resources.owns_process:
            self.worker_manager.end_orphans(self.resources.preexisting_children)
        _logger.info("close done, exiting with code:%d", self.supervisor.exit_code)

    # -- what happened -----------------------------------------------------------------------------------

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
        return self._on_exit(agent, exit)

    def on_app_exit(self, worker: Worker, exit: ExitReport) -> list[Command]:
        """An app worker is known dead, its children included."""
        return self._on_exit(worker, exit)

    def _on_exit(self, worker: Worker, exit: ExitReport) -> list[Command]:
        last_words, read = self.worker_manager.forget(worker)
        self.resources.listeners.forget(worker)
        if last_words:
            _logger.error("%s, where its threads were: %s", worker, printable(last_words))
        self.switchboard.disconnect(worker, read)
        self.announcer.exit(worker, exit)
        if worker.state is WorkerState.STOPPING:
            _logger.info("%s exited (%s)", worker, exit)
        return self.supervisor.exited(worker, exit, self._now())

    def _on_channel_broke(self, worker: Worker, error: FrameError | None) -> list[Command]:
        why = "closed its channel" if error is None else f"broke the protocol: {error}"
        return self.supervisor.channel_broke(worker, why)

    def _on_close_signal(self, number: signal.Signals) -> list[Command]:
        if self.supervisor.phase >= Phase.APPS_STOP:
            _logger.warning("receive signal %s again", number.name)
            return self.supervisor.cut_short()
        _logger.info("receive signal %s, closing", number.name)
        return self._close(None)

    def _close(self, progress: Progress | None) -> list[Command]:
        self.reception.follow_close(progress)
        commands = self.supervisor.close(self._now())
        if commands:
            _logger.info("send kill SIGTERM to app workers, will exit with code:%d", self.supervisor.exit_code)
        return commands

    def _reload(self, agent: bool | None, progress: Progress | None) -> list[Command]:
        if agent is None:
            self._agent_sources.compare(progress)
            return []
        self.reception.follow_reload(progress)
        return self.supervisor.reload(self._now(), agent=agent)

    # -- what to do --------------------------------------------------------------------------------------

    def fork_agent_worker(self, agent: Worker) -> None:
        """Start an incarnation of the agent."""
        cluster_socket = self.resources.listeners.cluster_socket
        fds = [cluster_socket.fileno()] if cluster_socket is not None else []
        survivors = [app.worker_id for app in self.supervisor.listening_apps() if app.worker_id is not None]
        order = self._order(
            agent,
            Role.AGENT,
            cluster_fd=fds[0] if fds else None,
            survivors=survivors,
            remembered=self.reception.agent_memory.kept,
        )
        self.worker_manager.fork(agent, order, fds)

    def fork_app_workers(self, *workers: Worker) -> None:
        """Start incarnations in their slots, each with its slot's listeners."""
        for worker in workers:
            listeners = self.resources.listeners.of_slot(worker.slot)
            worker.listening_at = self.resources.listeners.address_of(worker.slot)
            handover = self.resources.listeners.expect(worker)
            order = self._order(
                worker, Role.APP, listeners=listeners, listening_at=worker.listening_at, handover_fd=handover
            )
            fds = (*(listener.fd for listener in listeners), handover)
            self.worker_manager.fork(worker, order, [fd for fd in fds if fd is not None])

    def kill_app_workers(self, *workers: Worker, grace: float) -> None:
        """Ask them to close; SIGKILL for the process trees of those that need longer than `grace` seconds."""
        for worker in workers:
            self.worker_manager.stop(worker, grace)

    def kill_agent_worker(self, agent: Worker, grace: float) -> None:
        """As `kill_app_workers`, for the agent."""
        self.worker_manager.stop(agent, grace)

    def close(self) -> None:
        """Close the cluster in order; returns at once, `run` ends when it is done."""
        self.inbox.put(CloseRequested("close() was called"))

    def status(self) -> dict[str, Any]:
        """The cluster's state as plain values; see `status.py`."""
        listeners, abandoned = self.resources.listeners, self.worker_manager.abandoned()
        return describe_cluster(
            self.options, self.supervisor, self.switchboard, listeners, abandoned, self._started_at, self._now()
        )

    def _order(self, worker: Worker, role: Role, **details: Any) -> WorkerSpec:
        return WorkerSpec(
            role=role.value,
            slot=worker.slot,
            generation=worker.generation,
            cluster_id=self._cluster_id,
            options=self.options,
            forked_at=time.monotonic(),
            start_deadline=worker.start_deadline,
            cluster_port=self.resources.listeners.cluster_port,
            cluster_inode=self.resources.listeners.cluster_inode,
            reloads=self.reception.reloads,
            **details,
        )

    def _steer(self) -> None:
        """Log who takes new connections."""
        self.resources.listeners.steer([_view(slot) for slot in self.supervisor.slots], self._now())

    def _say(self, level: int, text: str, progress: bool) -> None:
        _logger.log(level, "%s", text)
        if progress:
            self.reception.say(text)

    # -- what the switchboard tells ------------------------------------------------------------------------

    def _on_broken(self, worker: Worker, error: FrameError | None) -> None:
        if error is not None:
            self.inbox.put(ChannelBroke(worker, error))
        else:
            self.worker_manager.channel_lost(worker)

    def _on_ask(self, link: Link, request_id: int, action: str, data: Any) -> None:
        self.reception.request(self.switchboard, link, request_id, action, data)

    # -- small things ------------------------------------------------------------------------------------

    def _summary(self) -> str:
        options = self.options
        workers = "1 worker" if options.workers == 1 else f"{options.workers} workers"
        return f"{options.name}: {workers}{in_words(options.start_mode)}, env {options.env}, pid {os.getpid()}"

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _age(self, worker: Worker) -> float:
        return (self._now() - worker.born) * 1000


def _view(slot: Slot) -> SlotView:
    """A slot as new connections see it."""
    worker = slot.current
    if worker is None or not slot.listening:
        return SlotView(slot.number, open=False)
    heartbeat = worker.heartbeat
    return SlotView(slot.number, heartbeat.accepting and not worker.stalled, heartbeat.connections, heartbeat.accepted)
