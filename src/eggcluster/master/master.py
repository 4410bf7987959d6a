"""The master: one inbox of events and one loop that takes them out. Runs in the master; imports no application code.

Each event goes to the supervisor (`model/lives/supervisor.py`), which decides and does no I/O. It answers with
commands; the master carries them out, in their order. One event goes there in two steps: before a reload that leaves
the agent open, `AgentSources` looks for changed files, and puts a request with the answer into the inbox.

Only this module passes events to the supervisor; other parts only read it. So the phase of the cluster and the state
of a worker change nowhere else. (`model/lives/worker.py` names the details of a worker that other parts fill in.)
"""

import asyncio
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.logs import Report, escape_own_lines
from eggcluster.master.agent_records import AgentSources
from eggcluster.master.control.cluster_status import describe_cluster
from eggcluster.master.control.event_feed import EventFeed
from eggcluster.master.control.requests import MasterRequests
from eggcluster.master.departure import Departure
from eggcluster.master.events import (
    BootFailed,
    ChannelBroke,
    CloseRequested,
    Event,
    Exited,
    Forked,
    Inbox,
    Progress,
    ReloadRequested,
    SignalReceived,
    Started,
)
from eggcluster.master.model_inputs import steering_view, supervisor_settings
from eggcluster.master.notifier import Notifier
from eggcluster.master.option_file import OptionFile
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.master.resources import FINAL_MESSAGES_TIMEOUT, MasterResources
from eggcluster.master.tally import Tally
from eggcluster.master.worker_manager import WorkerManager
from eggcluster.model.lives.commands import (
    Abort,
    CloseListeners,
    Command,
    Fork,
    Kill,
    Log,
    NotifyReady,
    PublishPids,
    ReadHeartbeats,
    ReloadEnded,
    ReportDeath,
    Steer,
    Stop,
)
from eggcluster.model.lives.phase import ExitCode, Phase
from eggcluster.model.lives.supervisor import Supervisor
from eggcluster.model.lives.worker import AgentWorker, ExitReport, Worker, WorkerState
from eggcluster.modes.starters import in_words
from eggcluster.options import ResolvedOptions
from eggcluster.wording import printable

_logger = logging.getLogger("eggcluster.master")


class Master:
    """One cluster, from its boot to its end. `options` come from `parse_options`.

    With `owns_process` this process is nothing but the master: it takes the process title and adopts orphans.
    `parent` is this master's end of a channel to the process that started it.
    """

    def __init__(
        self, options: ResolvedOptions, *, owns_process: bool = False, parent: socket.socket | None = None
    ) -> None:
        escape_own_lines()
        self.options = options
        self.supervisor = Supervisor(supervisor_settings(options, for_program=parent is not None), random.random)
        self.inbox = Inbox()
        self.feed = EventFeed()
        self.resources = MasterResources(options, owns_process=owns_process, parent=parent)
        self.requests = MasterRequests(self.inbox, self.status, self.supervisor.roster.sharing_apps)
        self.switchboard = Switchboard(
            options.workers, self.requests.report, self._on_broken, self._on_request, options.max_queue_bytes
        )
        self.worker_manager = WorkerManager(self.inbox, self.switchboard, options, owns_process=owns_process)
        self.notifier = Notifier(options, self.supervisor, self.switchboard, for_user=owns_process and not parent)
        self.started_at = time.time()
        self.tally = Tally()
        self.departure = Departure(self.inbox, options.shutdown_delay)
        self._option_file = OptionFile(options.base_dir)
        self._agent_sources = AgentSources(self.inbox, (options.base_dir, options.working_dir))
        self.requests.source_takers.append(self._agent_sources.found)

    # -- the life of a cluster ---------------------------------------------------------------------------

    async def run(self) -> ExitCode:
        """Boot, guard and close the cluster; return the exit code.

        OptionsError for an error that only shows now: a port that is taken, a second cluster of the same name.
        """
        with self.resources:
            await self.resources.acquire(self, self.supervisor, self.worker_manager.reap)
            _logger.info("%s", self._summary())
            self._carry_out(self.supervisor.boot(self._now()))
            while not self.supervisor.finished:
                event = await self.inbox.next(self.supervisor.next_deadline())
                commands = self._decide(event) if event is not None else []
                self._carry_out(commands + self.supervisor.tick(self._now()))
            await self._finish()
        return self.supervisor.exit_code

    def _decide(self, event: Event) -> list[Command]:
        """Pass an event to the supervisor; return the commands that it answers with."""
        self.feed.show_event(event)
        match event:
            case Forked():
                return []  # of interest to the feed alone
            case Started(AgentWorker() as agent):
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
                return self._reload(ReloadRequested())
            case SignalReceived(number):
                return self._on_close_signal(signal.Signals(number))
            case CloseRequested(why, progress):
                _logger.info("%s, closing", why)
                return self._close(progress)
            case ReloadRequested() as request:
                return self._reload(request)

    def _carry_out(self, commands: list[Command]) -> None:
        """Carry out the supervisor's commands, in their order. One that fails does not end the turn of those after it,
        nor the master, which would be the end of every worker."""
        for command in commands:
            try:
                self._carry_out_one(command)
                self.feed.show_command(command)
                self.tally.count(command)
            except Exception:
                _logger.exception("BUG: %s could not be carried out", type(command).__name__)

    def _carry_out_one(self, command: Command) -> None:
        match command:
            case Fork((AgentWorker() as agent,)):
                self.fork_agent_worker(agent)
            case Fork(workers):
                self.fork_app_workers(workers)
            case Stop((AgentWorker() as agent,), grace):
                self.kill_agent_worker(agent, grace)
            case Stop(workers, grace):
                self.kill_app_workers(workers, grace)
            case Kill(worker):
                self.worker_manager.kill(worker)
            case Abort(worker):
                self.worker_manager.abort(worker)
            case NotifyReady(worker):
                self.notifier.ready(self.resources.listeners, worker)
            case PublishPids():
                self._steer()
                self.notifier.pids()
            case ReadHeartbeats():
                self.switchboard.forget_begun()
                heartbeats = self.worker_manager.read_heartbeats(memory=bool(self.options.max_rss))
                self._carry_out(self.supervisor.heartbeats_read(heartbeats, self._now()))
            case Steer():
                self._steer()
            case ReportDeath(worker, exit, state):
                self.notifier.death(worker, exit, state)
            case CloseListeners():
                self.resources.close_listeners()
                self.worker_manager.announce_end()
            case Log(level, text, progress):
                _logger.log(level, "%s", text)
                if progress:
                    self.requests.say(text)
            case ReloadEnded(failure):
                self.worker_manager.end_reload(failure)
                self.requests.end_reload(failure)

    async def _finish(self) -> None:
        """Send the final messages and end what is left, because every worker is gone."""
        if self.supervisor.boot_failure is not None:
            self.notifier.boot_failure(self.supervisor.boot_failure)
        await self.requests.end_close(FINAL_MESSAGES_TIMEOUT)
        self.switchboard.lose_kept()
        await self.resources.flush_last_messages(self.switchboard)
        await self.worker_manager.end_templates()
        self.worker_manager.cancel()
        if self.resources.owns_process:
            self.worker_manager.end_orphans(self.resources.preexisting_children)
        _logger.info("close done, exiting with code:%d", self.supervisor.exit_code)

    # -- what happened -----------------------------------------------------------------------------------

    def on_agent_start(self, agent: Worker) -> list[Command]:
        """Act on `agent-start`: the agent has started."""
        commands = self.supervisor.started(agent, self._now())
        if agent.state is WorkerState.LISTENING:  # else it is being stopped already
            self.notifier.started(agent, self._now() - agent.born)
            self.switchboard.go_live(agent)
        return commands

    def on_app_start(self, worker: Worker) -> list[Command]:
        """Act on `app-start`: an app worker listens."""
        commands = self.supervisor.started(worker, self._now())
        if worker.state is WorkerState.LISTENING:
            self.notifier.started(worker, self._now() - worker.born)
            self.switchboard.go_live(worker)
        return commands

    def on_agent_exit(self, agent: Worker, exit: ExitReport) -> list[Command]:
        """Act on the end of the agent: it and its child processes are known dead."""
        self._remove(agent, exit)
        return self.supervisor.exited(agent, exit, self._now())

    def on_app_exit(self, worker: Worker, exit: ExitReport) -> list[Command]:
        """Act on the end of an app worker: it and its child processes are known dead."""
        self.resources.listeners.close_handover(worker)
        self._remove(worker, exit)
        return self.supervisor.exited(worker, exit, self._now())

    def _remove(self, worker: Worker, exit: ExitReport) -> None:
        final_message, begun = self.worker_manager.remove(worker)
        if final_message:
            _logger.error("%s, where its threads were: %s", worker, Report(printable(final_message)))
        self.switchboard.disconnect(worker, begun)
        self.notifier.exit(worker, exit)
        if worker.state is WorkerState.STOPPING:
            _logger.info("%s exited (%s)", worker, exit)

    def _on_channel_broke(self, worker: Worker, error: FrameError | None) -> list[Command]:
        why = "closed its channel" if error is None else f"broke the protocol: {error}"
        return self.supervisor.channel_broke(worker, why)

    def _on_close_signal(self, number: signal.Signals) -> list[Command]:
        if self.supervisor.phase >= Phase.APPS_STOP:
            _logger.warning("receive signal %s again", number.name)
            return self.supervisor.cut_short()
        if number is signal.SIGTERM and self.supervisor.phase is Phase.SERVING and self.departure.begin():
            _logger.info("receive signal SIGTERM, closing after %gs (shutdown_delay)", self.options.shutdown_delay)
            return []
        _logger.info("receive signal %s, closing", number.name)
        return self._close(None)

    def _close(self, progress: Progress | None) -> list[Command]:
        self.departure.end()
        self.requests.track_close(progress)
        commands = self.supervisor.close(self._now())
        if commands:
            _logger.info("send kill SIGTERM to app workers, will exit with code:%d", self.supervisor.exit_code)
        return commands

    def _reload(self, request: ReloadRequested) -> list[Command]:
        if request.agent is None:
            self._agent_sources.compare(request)
            return []
        self.requests.track_reload(request)
        self._option_file.look(self._tell_requesters)
        return self.supervisor.reload(self._now(), agent=request.agent)

    def _tell_requesters(self, text: str) -> None:
        _logger.warning("%s", text)
        self.requests.say(text)

    # -- what to do --------------------------------------------------------------------------------------

    def fork_agent_worker(self, agent: Worker) -> None:
        """Start the agent, with the journal of its predecessor and the ids of the app workers that share."""
        self._agent_sources.starting()
        listeners = self.resources.listeners
        self.worker_manager.fork(
            agent,
            listeners,
            cluster_fd=listeners.cluster_socket.fileno(),
            **self.requests.legacy(),
        )

    def fork_app_workers(self, workers: Sequence[Worker]) -> None:
        """Start app workers, each with the listeners of its slot: all of them at boot, later one at a time."""
        listeners = self.resources.listeners
        for worker in workers:
            worker.listening_at = listeners.address_of(worker.slot)
            self.worker_manager.fork(
                worker,
                listeners,
                listening_at=worker.listening_at,
                **listeners.open_handover(worker),
                dead_agent=self.supervisor.roster.dead_agent(),
                **self.requests.app_legacy(),
            )

    def kill_app_workers(self, workers: Sequence[Worker], grace: float) -> None:
        """Ask app workers to close; after `grace` seconds kill or abandon them. Return at once."""
        for worker in workers:
            self.worker_manager.stop(worker, grace)

    def kill_agent_worker(self, agent: Worker, grace: float) -> None:
        """Ask the agent to close; after `grace` seconds kill or abandon it. Return at once."""
        self.worker_manager.stop(agent, grace)

    def close(self) -> None:
        """Close the cluster in order. Return at once; `run` returns when it is done."""
        self.inbox.put(CloseRequested("close() was called"))

    def status(self) -> dict[str, Any]:
        """Return the cluster's state as plain values; see `control/cluster_status.py`."""
        resources, abandoned = self.resources, self.worker_manager.abandoned()
        return describe_cluster(
            self.options, self.supervisor, self.switchboard, resources, abandoned, self.started_at, self._now()
        )

    def _steer(self) -> None:
        """Tell the kernel, or the acceptor, which slots take new connections."""
        self.resources.listeners.steer([steering_view(slot) for slot in self.supervisor.slots], self._now())

    # -- what the switchboard reports ------------------------------------------------------------------------

    def _on_broken(self, worker: Worker, error: FrameError | None) -> None:
        self.worker_manager.channel_broke(worker, error)

    def _on_request(self, link: Link, request_id: int, action: str, data: Any) -> None:
        self.requests.request(self.switchboard, link, request_id, action, data)

    def _summary(self) -> str:
        options = self.options
        workers = "1 worker" if options.workers == 1 else f"{options.workers} workers"
        return f"{options.name}: {workers}{in_words(options.start_mode)}, env {options.env}, pid {os.getpid()}"

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
