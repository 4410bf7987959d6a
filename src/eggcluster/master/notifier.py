"""The lifecycle messages that the master sends, and the log lines beside them. Runs in the master."""

import logging
import time
from typing import Any

from eggcluster.kernel.terminal import is_terminal
from eggcluster.logs import Report, insist
from eggcluster.master.listening.listeners import Listeners
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.model.lives.supervisor import Supervisor
from eggcluster.model.lives.worker import AppWorker, ExitReport, Worker, WorkerState
from eggcluster.model.messages.role import AGENT, PARENT, Role
from eggcluster.options import ResolvedOptions
from eggcluster.wording import duration

_logger = logging.getLogger("eggcluster.master")


class Notifier:
    """Sends lifecycle messages to the agent, the app workers and the parent.

    `for_user`: a user started this process; on a terminal, the first screen says how to go on.
    """

    def __init__(
        self, options: ResolvedOptions, supervisor: Supervisor, switchboard: Switchboard, *, for_user: bool = False
    ) -> None:
        self._name = options.name
        self._own_ports = bool(options.ports)
        self._on_screen = for_user and options.log_format == "text" and is_terminal(2)
        self._supervisor = supervisor
        self._switchboard = switchboard
        self._created_at = time.monotonic()

    def started(self, worker: Worker, seconds: float) -> None:
        """Log that a worker has started, and where it listens if that is not where the cluster does."""
        at = f" at {worker.listening_at}" if self._own_ports and worker.slot else ""
        _logger.info("%s started%s (%s)", worker, at, duration(seconds))

    def ready(self, listeners: Listeners, worker: Worker | None) -> None:
        """Send `egg-ready` with the cluster's address: to one worker that started later, or (None) to all."""
        data = {"address": listeners.address, "port": listeners.port}
        if worker is not None:
            self._switchboard.tell([worker.address], "egg-ready", data)
            return
        elapsed = duration(time.monotonic() - self._created_at)
        _logger.info("%s started on %s (%s)", self._name, listeners.address, elapsed)
        if self._on_screen:
            _logger.info("stop it with Ctrl-C")
            _logger.info("look at it with `eggcluster status --name %s`", self._name)
        self._switchboard.tell([PARENT], "realport", data)
        self._switchboard.tell([PARENT], "egg-workers", self._workers())
        self._switchboard.tell(self._switchboard.live_addresses(), "egg-ready", data)

    def pids(self) -> None:
        """Send `egg-pids`: the agent or the set of listening app workers has changed."""
        agent = self._supervisor.agent
        # A closing agent counts: if the workers left it before it is dead, its last writes would reach no copy.
        there = (WorkerState.LISTENING, WorkerState.STOPPING)
        agents = [worker.worker_id for worker in agent.living() if worker.state in there]
        apps = [address for address in self._switchboard.live_addresses() if address.role is Role.APP]
        workers = self._workers()
        self._switchboard.tell([AGENT], "egg-pids", [worker["worker_id"] for worker in workers])
        self._switchboard.tell(apps, "egg-pids", agents)
        self._switchboard.tell([PARENT], "egg-workers", workers)

    def death(self, worker: Worker, exit: ExitReport, state: str) -> None:
        """Log an unexpected exit in one line, and send `agent-worker-died` or `app-worker-died` to the parent.

        After the line of a worker that could not start, its report follows.
        """
        if worker.failure is not None and self._is_news(worker):
            insist(_logger, logging.ERROR, "%s could not start: %s", worker, Report(worker.failure))
        else:
            current = ", ".join(str(app) for app in self._supervisor.listening_apps())
            _logger.error("%s died (%s, state: %s), current workers: [%s]", worker, exit, state, current)
        action = "app-worker-died" if isinstance(worker, AppWorker) else "agent-worker-died"
        self._tell_parent(action, worker, exit)

    def exit(self, worker: Worker, exit: ExitReport) -> None:
        """Send `agent-exit` or `app-exit` to the parent, after an expected or an unexpected exit.

        All app workers hear which agent is dead, those that boot, too. `egg-pids` does not say that: where it is read
        late, it would be taken for a notice about the next agent.
        """
        action = "app-exit" if isinstance(worker, AppWorker) else "agent-exit"
        if action == "agent-exit":
            self._switchboard.tell_apps("egg-agent-gone", worker.generation)
        self._tell_parent(action, worker, exit)

    def boot_failure(self, worker: Worker) -> None:
        """Send the parent the report of the worker that made the boot fail."""
        data = {"report": worker.failure or "", "bad_option": worker.misused_option}
        self._switchboard.tell([PARENT], "boot-failed", data)

    def _is_news(self, worker: Worker) -> bool:
        """Return whether to log the worker's report. During the boot one report is enough: the others are the same."""
        return self._supervisor.boot_failure in (None, worker)

    def _workers(self) -> list[dict[str, Any]]:
        return [
            {"slot": worker.slot, "worker_id": worker.worker_id, "generation": worker.generation}
            for worker in self._supervisor.listening_apps()
        ]

    def _tell_parent(self, action: str, worker: Worker, exit: ExitReport) -> None:
        data = {"worker_id": worker.worker_id, "slot": worker.slot, "code": exit.code, "signal": exit.signal}
        self._switchboard.tell([PARENT], action, data)
