"""The supervisor: decides about the lives of all workers, by commands. Pure; runs in the master.

It starts the agent first, then the app workers, and stops them in the opposite order. Workers that die are replaced;
there are never two agents. The master calls a method for an event, and carries out the commands in their order.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from eggcluster.model.lives.boot_retry import BootRetry
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
from eggcluster.model.lives.health import HangDetector, HealthCheck, has_slept, next_heartbeat_check
from eggcluster.model.lives.phase import ExitCode, Phase
from eggcluster.model.lives.replacement import after_death
from eggcluster.model.lives.rollout import Recycling, Rollout, RolloutTerms
from eggcluster.model.lives.roster import Roster, Slot
from eggcluster.model.lives.settings import SupervisorSettings, recycle_pause, recycle_reason
from eggcluster.model.lives.worker import ExitReport, Heartbeat, Worker, WorkerState


class Supervisor:
    """Decides everything about the lives of agent and app workers.

    The methods for events return the commands to carry out; `now` is a monotonic instant in seconds. `tick` is due at
    `next_deadline()`, if no event comes before. `finished` says whether the cluster has ended. `chance` returns a
    number from 0 to 1, which only picks a moment within a range.
    """

    def __init__(self, settings: SupervisorSettings, chance: Callable[[], float] = lambda: 1.0) -> None:
        self.settings, self._chance = settings, chance
        self.phase = Phase.AGENT_BOOT
        self.exit_code = ExitCode.CLOSED
        self.boot_failure: Worker | None = None
        self.roster = Roster(settings)
        self.agent, self.slots = self.roster.agent, self.roster.slots
        self._close_deadline: float | None = None
        self.health = HealthCheck()
        self._rollout: Rollout | None = None  # the one under way
        self._reload_wanted: bool | None = None  # it follows the rollout under way; True: with the agent
        self._boot_retry = BootRetry(self.roster, self._fork_all)
        self._next_recycling = 0.0
        self._terms = RolloutTerms(self._fork, settings.grace, self.roster.may_drain)
        self._hang_detector = HangDetector()
        self._next_check: float | None = None

    # -- what happened -------------------------------------------------------------------------------------

    def boot(self, now: float) -> list[Command]:
        """Begin with the agent."""
        self._hang_detector.restart(now)
        self._next_check = next_heartbeat_check(now)
        return [self._fork(self.agent, now)]

    def started(self, worker: Worker, now: float) -> list[Command]:
        """Act on the report of `worker` that it has started (`agent-start`, `app-start`)."""
        if worker.state is not WorkerState.STARTING or worker.failure is not None:
            return []  # it is being stopped already: the report crossed the close request
        self.roster.slot_of(worker).opened(worker, now)
        if self.phase is Phase.AGENT_BOOT:
            self.phase = Phase.APPS_BOOT
            return [self._fork_all(self.slots, now)]
        if self.phase is Phase.APPS_BOOT:
            return self._ready(now) if all(slot.listening for slot in self.slots) else []
        if self.phase is Phase.SERVING:
            taken_over = self._rollout.started(self.roster.slot_of(worker), worker, now) if self._rollout else []
            return [NotifyReady(worker), *self._after_step(taken_over, now), PublishPids()]
        return []

    def boot_failed(self, worker: Worker, report: str, bad_option: bool) -> list[Command]:
        """Note the report of `worker` why it cannot boot; its exit follows."""
        worker.failure, worker.misused_option = report, bad_option
        return []

    def channel_broke(self, worker: Worker, why: str) -> list[Command]:
        """Kill `worker`, which lives on although its channel is unusable; `why` says what it did."""
        if worker.state in (WorkerState.STOPPING, WorkerState.DEAD):
            return []
        worker.kill_reason = worker.kill_reason or f"it {why}"
        return [Log(logging.ERROR, f"{worker} {why}"), Kill(worker)]

    def exited(self, worker: Worker, exit: ExitReport, now: float) -> list[Command]:
        """Act on the end of `worker`: it and all processes that it started are known dead."""
        slot, before = self.roster.slot_of(worker), worker.state
        was_successor = worker is slot.successor
        slot.remove_dead(worker)
        if before is WorkerState.STOPPING:
            rolled = self._rollout.retired(slot, worker, exit, now) if self._rollout else []
            return [*self._check_close(worker, exit), *self._next_stop(now), *self._after_step(rolled, now)]
        if before is WorkerState.STARTING or self.phase < Phase.SERVING:
            worker.failure = worker.failure or f"{worker} died while {before.value} ({worker.kill_reason or exit})"
        report = ReportDeath(worker, exit, before.value)
        slot.last_death = worker.failure.splitlines()[0] if worker.failure else worker.kill_reason or str(exit)
        if self.phase < Phase.SERVING:
            return [report, *self._fail_boot(worker, before, now)]
        if self.phase > Phase.SERVING:
            return [report, *self._next_stop(now)]
        rolled = self._rollout.died(slot, worker, before, self._stays_empty(slot)) if self._rollout else []
        replaced = [] if was_successor else [*self._replace(slot, worker, now), PublishPids()]
        return [report, *self._after_step(rolled, now), *replaced]

    def close(self, now: float, code: ExitCode = ExitCode.CLOSED) -> list[Command]:
        """Close in order: app workers, agent, master, with this exit code. A second call changes nothing."""
        if self.phase >= Phase.APPS_STOP:
            return []
        self.phase = Phase.APPS_STOP
        self.exit_code = code
        self.health.end()
        self._close_deadline = now + self.settings.close_limit
        commands: list[Command] = [CloseListeners()]
        if self._rollout is not None:
            commands += self._rollout.abort()
            self._rollout = None
        if self._reload_wanted is not None:
            commands.append(ReloadEnded("the cluster is closing"))
        commands += self._boot_retry.end("the cluster is closing")
        for slot in self.roster:
            slot.next_try = None
        commands += self._stop(self.slots, self.settings.app_close_timeout)
        return commands + self._next_stop(now)

    def cut_short(self) -> list[Command]:
        """Stop waiting for workers that are closing: kill them."""
        self._stop([self.agent], 0)  # only for the agent's state, so that its death is no failure
        return [Log(logging.WARNING, "closing is cut short"), *map(Kill, self.roster.living())]

    def reload(self, now: float, *, agent: bool = False) -> list[Command]:
        """Replace every app worker, new before old, slot after slot; with `agent` the agent, too. During a boot that
        waits for changes, start again what could not start."""
        if self.phase < Phase.SERVING and self.settings.retries_boot:
            return self._boot_retry.again(now, agent=agent)
        if self.phase is not Phase.SERVING:
            why = f"the cluster is {self.phase.word}; reload it when it serves"
            return [Log(logging.WARNING, f"no reload: {why}"), ReloadEnded(why)]
        if self._rollout is not None:
            self._reload_wanted = agent or bool(self._reload_wanted)
            recycling = isinstance(self._rollout, Recycling)
            what = "a worker is being recycled, the reload" if recycling else "a reload is under way, another one"
            return [Log(logging.INFO, f"{what} follows it", progress=True)]
        rollout = Rollout(self.roster.to_reload(agent=agent), now, self._terms)
        return [Log(logging.INFO, "reload started", progress=True), *self._begin_rollout(rollout, now)]

    def heartbeats_read(self, heartbeats: Mapping[Worker, Heartbeat], now: float) -> list[Command]:
        """Act on the heartbeats that `ReadHeartbeats` asked for."""
        loaded, idle = False, True
        for worker, seen in heartbeats.items():
            loaded = loaded or seen.load != worker.heartbeat.load
            idle = idle and seen.is_idle_since(worker.heartbeat)
            worker.heartbeat = seen
        if idle and self._next_check is not None:
            self._next_check = next_heartbeat_check(now, idle=True)
        if self.phase >= Phase.APPS_STOP:
            return []
        watched = self.roster.listening()  # boot and close have limits of their own
        changed = self._hang_detector.update(watched, now)
        steer = [Steer(tuple(changed))] if changed or loaded else []
        hung = [command for worker in watched for command in self._end_hung(worker, now)]
        return [*steer, *hung, *self._recycle(now)]

    def master_slept(self, seconds: float, now: float) -> list[Command]:
        """Postpone everything that is due by `seconds`, in which the master itself did not run, because it was stopped
        or starved. Heartbeats that are missing for that time do not count."""
        self._hang_detector.restart(now)
        self.roster.postpone(seconds)
        if self._close_deadline is not None:
            self._close_deadline += seconds
        self.health.postpone(seconds)
        return [Log(logging.WARNING, f"the master did not run for {seconds:.1f}s; no worker is blamed for that")]

    def tick(self, now: float) -> list[Command]:
        """Return the commands that are due."""
        commands = self._check_heartbeats(now)
        # What may end the cluster comes first, so that no worker is started at the same moment.
        if self._close_deadline is not None and now >= self._close_deadline:
            commands += self._give_up(now)
        if self.health.due is not None and now >= self.health.due:
            commands += self._check_health(now)
        if self.finished:
            return commands
        for slot in self.roster:
            commands += map(Kill, slot.overdue(now))
            if slot.next_try is not None and now >= slot.next_try:
                commands.append(self._fork(slot, now))
        return commands

    # -- queries ---------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self.phase is Phase.STOPPED

    def next_deadline(self) -> float | None:
        """Return the earliest instant at which `tick` has something to do; None if only an event can change
        anything."""
        due = (self._close_deadline, self.health.due, self._next_check, *self.roster.deadlines())
        return min((instant for instant in due if instant is not None), default=None)

    def listening_apps(self) -> list[Worker]:
        """Return the app workers that listen, in the order of their slots."""
        return [worker for worker in self.roster.listening() if worker.slot]

    # -- boot and replacement ------------------------------------------------------------------------------

    def _fork(self, slot: Slot, now: float) -> Fork:
        return self._fork_all([slot], now)

    def _fork_all(self, slots: Sequence[Slot], now: float) -> Fork:
        return Fork(tuple(slot.new_worker(now, self._chance()) for slot in slots))

    def _check_heartbeats(self, now: float) -> list[Command]:
        """Check the workers at short intervals; a check that comes much too late says nothing about them."""
        if self._next_check is None or now < self._next_check:
            return []
        late, self._next_check = now - self._next_check, next_heartbeat_check(now)
        return [*(self.master_slept(late, now) if has_slept(late) else []), ReadHeartbeats()]

    def _ready(self, now: float) -> list[Command]:
        self.phase = Phase.SERVING
        self.health.begin(now)
        commands, wanted = self._boot_retry.succeeded()
        follows = self.reload(now, agent=wanted) if wanted is not None else []
        return [NotifyReady(None), PublishPids(), *commands, *follows]

    def _fail_boot(self, worker: Worker, before: WorkerState, now: float) -> list[Command]:
        if self.settings.retries_boot and before is WorkerState.STARTING:
            return self._boot_retry.failed(worker, now)
        self.boot_failure = self.boot_failure or worker
        return self.close(now, ExitCode.BAD_OPTIONS if worker.misused_option else ExitCode.FAILED)

    def _replace(self, slot: Slot, worker: Worker, now: float) -> list[Command]:
        stays_empty = self._stays_empty(slot)
        logs, at_once = after_death(self.roster, worker, now, self._chance(), stays_empty=stays_empty)
        return [*logs, self._fork(slot, now)] if at_once else [*logs]

    def _stays_empty(self, slot: Slot) -> bool:
        return slot.number > 0 and slot.current is None and not self.settings.replace_apps

    # -- closing -------------------------------------------------------------------------------------------

    def _stop(self, slots: Sequence[Slot], grace: float) -> list[Command]:
        stopped = []
        for slot in slots:
            for worker in list(slot.living()):
                if worker.state is not WorkerState.STOPPING:
                    slot.retire(worker)
                    stopped.append(worker)
        return [Stop(tuple(stopped), grace)] if stopped else []

    def _check_close(self, worker: Worker, exit: ExitReport) -> list[Command]:
        """Tell what is wrong with the end of a worker that was told to close, also to the requesters of a reload. Not
        of one that still boots: it fails like the one that is reported. In the exit code, killed is not failed."""
        if (why := exit.closed_badly) is None or (self.boot_failure and worker.listening_since is None):
            return []
        if exit.code and self.phase >= Phase.APPS_STOP:
            self.exit_code = self.exit_code or ExitCode.FAILED
        return [Log(logging.ERROR if exit.code else logging.WARNING, f"{worker} {why}", self._rollout is not None)]

    def _next_stop(self, now: float) -> list[Command]:
        """While closing: stop the agent after the last app worker, then end."""
        if self.phase is Phase.APPS_STOP and not self.roster.has_apps:
            self.phase = Phase.AGENT_STOP
            if stops := self._stop([self.agent], self.settings.agent_close_timeout):
                return stops
        if self.phase is Phase.AGENT_STOP and not self.roster.living():
            self.phase = Phase.STOPPED
            self._close_deadline = self._next_check = None
        return []

    def _give_up(self, now: float) -> list[Command]:
        self._close_deadline = None
        self.phase = Phase.STOPPED
        self.exit_code = ExitCode.CLOSE_TIMEOUT
        left = ", ".join(map(str, self.roster.living()))
        text = f"close timeout: not done after {self.settings.close_limit:g}s, killing {left}"
        return [Log(logging.ERROR, text), *map(Kill, self.roster.living())]

    # -- reload and recycling --------------------------------------------------------------------------------

    def _begin_rollout(self, rollout: Rollout, now: float) -> list[Command]:
        self._rollout = rollout
        return self._after_step(rollout.step(now), now)

    def _after_step(self, commands: list[Command], now: float) -> list[Command]:
        """After a step of the rollout: if it is over, begin the reload that was requested meanwhile."""
        rollout = self._rollout
        if rollout is None or not rollout.over:
            return commands
        self._rollout = None
        self._next_recycling = now + recycle_pause(failed=rollout.failed and isinstance(rollout, Recycling))
        wanted, self._reload_wanted = self._reload_wanted, None
        if wanted is None:
            return commands
        # Both requests are answered after the second reload: both asked for the newest version, which may boot even if
        # the earlier one did not.
        commands = [each for each in commands if not isinstance(each, ReloadEnded)]
        return commands + self.reload(now, agent=wanted)

    def _recycle(self, now: float) -> list[Command]:
        """Replace a worker that has reached a limit, unless another rollout is under way."""
        if self._rollout is not None or self.phase is not Phase.SERVING or now < self._next_recycling:
            return []
        # The oldest first: otherwise, with a short limit, the others would never have their turn.
        for worker in sorted(self.listening_apps(), key=lambda worker: worker.listening_since or 0.0):
            why = recycle_reason(worker, self.settings.limits, now)
            if why is not None:
                text = f"recycling {worker} after {why}"
                rollout = Recycling([self.roster.slot_of(worker)], now, self._terms)
                return [Log(logging.INFO, text), *self._begin_rollout(rollout, now)]
        return []

    # -- hung workers ----------------------------------------------------------------------------------------

    def _end_hung(self, worker: Worker, now: float) -> list[Command]:
        """End a worker if its loop has been stalled for longer than its timeout."""
        timeout = self.settings.hang_timeout(worker.slot)
        if not timeout or worker.kill_reason is not None or self._hang_detector.stalled_for(worker, now) < timeout:
            return []
        worker.kill_reason = f"its event loop had not moved for {timeout:g}s"
        return [Log(logging.ERROR, f"{worker} is hung: {worker.kill_reason}"), Abort(worker)]

    # -- health --------------------------------------------------------------------------------------------

    def _check_health(self, now: float) -> list[Command]:
        if not self.settings.replace_apps:
            self.health.end()  # in this environment a slot stays empty on purpose
            return []
        booting = any(slot.boots_as_usual(now) for slot in self.slots)
        self.health.update(now, apps=bool(self.listening_apps()), booting=booting, agent=self.agent.listening)
        if self.health.no_app:
            why = Log(logging.ERROR, "no app worker has been listening for three checks in a row, closing")
            return [why, *self.close(now, ExitCode.FAILED)]
        if self.health.no_agent:
            text = "no agent has been alive for three checks in a row"
            closing = self.close(now, ExitCode.FAILED) if self.settings.strict else []
            return [Log(logging.ERROR, text), *closing]
        return []
