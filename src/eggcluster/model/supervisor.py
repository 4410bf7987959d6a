"""The heart of the master, without I/O: told what happened, it answers with what is to be done.

Start left to right (agent, then app workers), stop right to left; whoever dies is replaced; the agent is single.
The master owns the only instance, calls one method for each event, and carries out the commands in their order.
"""

import logging
from dataclasses import dataclass

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
from eggcluster.model.phase import ExitCode, Phase
from eggcluster.model.restart_budget import RestartBudget
from eggcluster.model.seat import Seat
from eggcluster.model.worker import ExitReport, Worker, WorkerState

AGENT_FIRST_DELAY = 1.0  # seconds; Egg's: an agent that fails at once must not spin
CHECK_INTERVAL = 10.0  # seconds between two looks at whether anybody serves; Egg's
CHECKS_FAILED = 3  # looks in a row with nobody there before the cluster gives up; Egg's


@dataclass(frozen=True)
class Plan:
    """The options that the supervisor's decisions depend on. All times in seconds."""

    workers: int
    app_start_timeout: float = 60.0
    agent_start_timeout: float = 60.0
    app_close_timeout: float = 5.0
    agent_close_timeout: float = 5.0
    close_timeout: float = 15.0
    replace_apps: bool = True
    strict: bool = False

    @property
    def close_limit(self) -> float:
        """The whole closing's limit: never so short that the two parts of it could not have theirs."""
        return max(self.close_timeout, self.app_close_timeout + self.agent_close_timeout + 5.0)


class Supervisor:
    """Decides everything about the lives of agent and app workers.

    Every method takes `now`, a monotonic instant in seconds, and gives the commands to carry out. After each
    call `next_deadline()` says when `tick` wants to be called at the latest, `finished` whether all is over.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.phase = Phase.AGENT_BOOT
        self.exit_code = ExitCode.CLOSED
        self.boot_failure: Worker | None = None
        self.agent = Seat(0, plan.agent_start_timeout, RestartBudget(AGENT_FIRST_DELAY))
        self.slots = [Seat(n, plan.app_start_timeout, RestartBudget()) for n in range(1, plan.workers + 1)]
        self._close_deadline: float | None = None
        self._next_check: float | None = None
        self._checks_without_app = 0
        self._checks_without_agent = 0
        self._reload: list[Seat] = []  # still to come; the first is the one under way
        self._reload_began = 0.0
        self._reload_wanted = False  # another reload was asked for while one was under way

    # -- what happened -------------------------------------------------------------------------------------

    def boot(self, now: float) -> list[Command]:
        """Begin: the agent first."""
        return [self._fork(self.agent, now)]

    def started(self, worker: Worker, now: float) -> list[Command]:
        """`worker` reported itself started (`agent-start`, `app-start`)."""
        if worker.state is not WorkerState.STARTING or worker.failure is not None:
            return []  # it is being ended already, and its report crossed the order
        worker.advance(WorkerState.LISTENING)
        worker.listening_since = now
        if self.phase is Phase.AGENT_BOOT:
            self.phase = Phase.APPS_BOOT
            return [self._fork(seat, now) for seat in self.slots]
        if self.phase is Phase.APPS_BOOT:
            return self._ready(now) if all(seat.listening for seat in self.slots) else []
        if self.phase is Phase.SERVING:
            return [Announce(worker), *self._take_over(worker, now), PublishPids()]
        return []

    def boot_failed(self, worker: Worker, report: str, bad_option: bool) -> list[Command]:
        """`worker` told why it cannot boot; its exit follows."""
        worker.failure, worker.misused_option = report, bad_option
        return []

    def channel_broke(self, worker: Worker, why: str) -> list[Command]:
        """Nobody can talk with `worker` any more, and it lives on."""
        if worker.state in (WorkerState.STOPPING, WorkerState.DEAD):
            return []
        worker.failure = worker.failure or f"{worker} {why}"
        return [Say(logging.ERROR, f"{worker} {why}"), Kill(worker)]

    def exited(self, worker: Worker, exit: ExitReport, now: float) -> list[Command]:
        """`worker` and all of its children are known dead."""
        seat, before = self._seat(worker), worker.state
        was_successor = worker is seat.successor
        seat.bury(worker)
        if before is WorkerState.STOPPING:
            return [*self._check_close(worker, exit), *self._next_stop(now), *self._reload_on(seat, now)]
        if before is WorkerState.STARTING or self.phase < Phase.SERVING:
            worker.failure = worker.failure or f"{worker} died while {before.value} ({exit})"
        report = ReportDeath(worker, exit, before.value)
        seat.last_death = worker.failure.splitlines()[0] if worker.failure else str(exit)
        if self.phase < Phase.SERVING:
            return [report, *self._fail_boot(worker, now)]
        if self.phase > Phase.SERVING:
            return [report, *self._next_stop(now)]
        stopped = self._stop_reload(worker) if self._ends_reload(seat, worker, before) else []
        if was_successor:
            return [report, *stopped]
        return [report, *stopped, *self._replace(seat, worker, now), PublishPids()]

    def close(self, now: float, code: ExitCode = ExitCode.CLOSED) -> list[Command]:
        """Close in order: app workers, agent, master. Asked again, it changes nothing."""
        if self.phase >= Phase.APPS_STOP:
            return []
        self.phase = Phase.APPS_STOP
        self.exit_code = code
        self._close_deadline = now + self.plan.close_limit
        commands: list[Command] = [CloseListeners()]
        if self._reload:
            commands.append(ReloadEnded("the cluster is closing"))
            self._reload.clear()
        for seat in (self.agent, *self.slots):
            seat.next_try = None
        for seat in self.slots:
            commands += self._stop(seat, self.plan.app_close_timeout)
        return commands + self._next_stop(now)

    def cut_short(self) -> list[Command]:
        """While closing: wait for nobody any more."""
        self._stop(self.agent, 0)  # only for its state: its death is no failure
        return [Say(logging.WARNING, "closing is cut short"), *map(Kill, self.everybody())]

    def reload(self, now: float) -> list[Command]:
        """Replace every app worker, one slot after the other, new before old."""
        if self.phase is not Phase.SERVING:
            return [ReloadEnded(f"the cluster is {self.phase.word}; reload it when it serves")]
        if self._reload:
            self._reload_wanted = True
            return [Say(logging.INFO, "a reload is under way, another one follows it", progress=True)]
        self._reload = list(self.slots)
        self._reload_began = now
        return [Say(logging.INFO, "reload started", progress=True), *self._reload_slot(now)]

    def tick(self, now: float) -> list[Command]:
        """Time has passed: do what is due."""
        commands: list[Command] = []
        # First what may end it all: then nobody is started in the same moment.
        if self._close_deadline is not None and now >= self._close_deadline:
            commands += self._give_up(now)
        if self._next_check is not None and now >= self._next_check:
            commands += self._check_health(now)
        if self.finished:
            return commands
        for seat in (self.agent, *self.slots):
            commands += self._check_start(seat, now)
            if seat.next_try is not None and now >= seat.next_try:
                commands.append(self._fork(seat, now))
        return commands

    # -- what may be asked ---------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self.phase is Phase.STOPPED

    def next_deadline(self) -> float | None:
        """The earliest instant at which `tick` has something to do; None: only an event can change anything."""
        due: list[float | None] = [self._close_deadline, self._next_check]
        for seat in (self.agent, *self.slots):
            due.append(seat.next_try)
            due += [w.start_deadline for w in seat.living() if w.state is WorkerState.STARTING]
        return min((instant for instant in due if instant is not None), default=None)

    def listening_apps(self) -> list[Worker]:
        """The app workers that serve, in the order of their slots."""
        return [seat.current for seat in self.slots if seat.current is not None and seat.listening]

    def everybody(self) -> list[Worker]:
        """All incarnations that are not known dead, the agent's first."""
        return [worker for seat in (self.agent, *self.slots) for worker in seat.living()]

    # -- boot and replacement ------------------------------------------------------------------------------

    def _seat(self, worker: Worker) -> Seat:
        return self.slots[worker.slot - 1] if worker.slot else self.agent

    def _fork(self, seat: Seat, now: float) -> Fork:
        return Fork(seat.seat_new(now))

    def _ready(self, now: float) -> list[Command]:
        self.phase = Phase.SERVING
        self._next_check = now + CHECK_INTERVAL
        return [Announce(None), PublishPids()]

    def _fail_boot(self, worker: Worker, now: float) -> list[Command]:
        self.boot_failure = self.boot_failure or worker
        return self.close(now, ExitCode.BAD_OPTIONS if worker.misused_option else ExitCode.FAILED)

    def _replace(self, seat: Seat, worker: Worker, now: float) -> list[Command]:
        since = worker.listening_since
        delay = seat.budget.died(None if since is None else now - since)
        if seat.current is not None:
            return []  # its successor, starting already, has moved up
        if self._stays_empty(seat):
            return [Say(logging.WARNING, f"slot {seat.slot} stays empty in this environment: fix it, then reload")]
        if delay == 0:
            return [self._fork(seat, now)]
        seat.next_try = now + delay
        name = f"app_worker#{seat.slot}" if seat.slot else "agent_worker"
        return [Say(logging.INFO, f"try to start a new {name} after {delay:g}s ...")]

    def _stays_empty(self, seat: Seat) -> bool:
        return seat.slot > 0 and seat.current is None and not self.plan.replace_apps

    def _check_start(self, seat: Seat, now: float) -> list[Command]:
        commands: list[Command] = []
        for worker in seat.living():
            if worker.state is WorkerState.STARTING and now >= worker.start_deadline:
                # A worker that can still run Python has just told where it was: that report is the better one.
                worker.failure = worker.failure or f"start timeout: not ready after {seat.start_timeout:g}s"
                worker.start_deadline = float("inf")
                commands.append(Kill(worker))
        return commands

    # -- closing -------------------------------------------------------------------------------------------

    def _stop(self, seat: Seat, grace: float) -> list[Command]:
        stops: list[Command] = []
        for worker in list(seat.living()):
            if worker.state is not WorkerState.STOPPING:
                seat.retire(worker)
                stops.append(Stop(worker, grace))
        return stops

    def _check_close(self, worker: Worker, exit: ExitReport) -> list[Command]:
        """A worker whose closing raised says so with its exit code; one that had to be killed was just late."""
        if not exit.code or self.phase < Phase.APPS_STOP:
            return []
        self.exit_code = self.exit_code or ExitCode.FAILED
        return [Say(logging.ERROR, f"{worker} failed while closing ({exit})")]

    def _next_stop(self, now: float) -> list[Command]:
        """Closing: once the last app worker is gone it is the agent's turn, then the master's."""
        if self.phase is Phase.APPS_STOP and not any(True for seat in self.slots for _ in seat.living()):
            self.phase = Phase.AGENT_STOP
            stops = self._stop(self.agent, self.plan.agent_close_timeout)
            if stops:
                return stops
        if self.phase is Phase.AGENT_STOP and not any(True for _ in self.agent.living()):
            self.phase = Phase.STOPPED
            self._close_deadline = self._next_check = None
        return []

    def _give_up(self, now: float) -> list[Command]:
        self._close_deadline = None
        self.phase = Phase.STOPPED
        self.exit_code = ExitCode.CLOSE_TIMEOUT
        left = ", ".join(map(str, self.everybody()))
        text = f"close timeout: not done after {self.plan.close_limit:g}s, killing {left}"
        return [Say(logging.ERROR, text), *map(Kill, self.everybody())]

    # -- reload --------------------------------------------------------------------------------------------

    def _reload_slot(self, now: float) -> list[Command]:
        """Start the next slot's new worker, or end the reload."""
        if not self._reload:
            if self._reload_wanted:
                self._reload_wanted = False
                return self.reload(now)  # who asked for the first is told after the second: both asked for the newest
            return [Say(logging.INFO, "reload done", progress=True), ReloadEnded(None)]
        seat = self._reload[0]
        seat.budget.forgive()
        if seat.current is not None and not seat.listening:
            return []  # its replacement is starting just now: two at once would hide which of them fails
        return [self._fork(seat, now)]

    def _take_over(self, worker: Worker, now: float) -> list[Command]:
        """A started worker of the slot under reload: its predecessor goes, or the next slot comes."""
        seat = self._seat(worker)
        if not self._reload or self._reload[0] is not seat:
            return []
        if worker.born < self._reload_began:
            return [self._fork(seat, now)]  # it was starting when the reload began: it may hold the old version
        text = f"slot {seat.slot} of {len(self.slots)} reloaded: {worker}"
        commands: list[Command] = [Say(logging.INFO, text, progress=True)]
        if worker is seat.successor and seat.current is not None:
            old = seat.current
            seat.retire(old)
            return [*commands, Stop(old, self.plan.app_close_timeout)]
        self._reload.pop(0)
        return commands + self._reload_slot(now)

    def _reload_on(self, seat: Seat, now: float) -> list[Command]:
        """A retired worker is gone: the next slot, if it was the one that the reload waited for."""
        if self.phase is not Phase.SERVING or not self._reload or self._reload[0] is not seat:
            return []
        if seat.successor is not None or not seat.listening:
            return []  # not who it waits for; or the new one died meanwhile, and its replacement ends this step
        self._reload.pop(0)
        return self._reload_slot(now)

    def _ends_reload(self, seat: Seat, worker: Worker, before: WorkerState) -> bool:
        """Whether this death is the new version's, or leaves nobody whom the reload could wait for."""
        if not self._reload or self._reload[0] is not seat:
            return False
        is_new = worker.born >= self._reload_began
        return (before is WorkerState.STARTING and is_new) or self._stays_empty(seat)

    def _stop_reload(self, worker: Worker) -> list[Command]:
        """The new version does not boot: the old one goes on."""
        self._reload.clear()
        self._reload_wanted = False
        why = worker.failure or f"{worker} died"
        text = f"reload stopped, the workers so far go on: {why.splitlines()[0]}"
        return [Say(logging.ERROR, text), ReloadEnded(why)]

    # -- health --------------------------------------------------------------------------------------------

    def _check_health(self, now: float) -> list[Command]:
        """Egg's check: three looks in a row at an empty house end it."""
        self._next_check = now + CHECK_INTERVAL if self.phase is Phase.SERVING else None
        if self.phase is not Phase.SERVING or not self.plan.replace_apps:
            return []
        self._checks_without_app = 0 if self.listening_apps() else self._checks_without_app + 1
        self._checks_without_agent = 0 if self.agent.listening else self._checks_without_agent + 1
        if self._checks_without_app >= CHECKS_FAILED:
            text = "no app worker has been listening for three checks in a row, closing"
            return [Say(logging.ERROR, text), *self.close(now, ExitCode.FAILED)]
        if self._checks_without_agent >= CHECKS_FAILED:
            text = "no agent has been alive for three checks in a row"
            closing = self.close(now, ExitCode.FAILED) if self.plan.strict else []
            return [Say(logging.ERROR, text), *closing]
        return []
