"""A world without processes for the supervisor to rule: it carries out commands, and asserts what always holds."""

from dataclasses import replace
from typing import Any, TypeVar

from eggcluster.model.lives.commands import Abort, Command, Fork, Kill, Log, ReadHeartbeats, ReloadEnded, Stop
from eggcluster.model.lives.phase import Phase
from eggcluster.model.lives.settings import SupervisorSettings
from eggcluster.model.lives.supervisor import Supervisor
from eggcluster.model.lives.worker import AgentWorker, AppWorker, ExitReport, Heartbeat, Worker, WorkerState

C = TypeVar("C", bound=Command)

KILLED = ExitReport(signal="SIGKILL")
FAILED = ExitReport(code=1)


class World:
    """A forked worker lives until `exits` says otherwise. Each event is followed by a tick, as in the master.

    Every worker's loop moves, except those in `silent`; `loads` are the requests and connections of some.
    """

    def __init__(self, workers: int = 2, **plan: Any) -> None:
        self.now = 1000.0
        self.supervisor = Supervisor(SupervisorSettings(workers, **plan))
        self.living: list[Worker] = []
        self.all: list[Worker] = []
        self.ordered: dict[Worker, float] = {}  # the workers told to stop, and with which grace
        self.killed: set[Worker] = set()
        self.aborted: set[Worker] = set()
        self.silent: dict[Worker, float] = {}  # the workers whose loops stand still, and since when
        self.loads: dict[Worker, Heartbeat] = {}
        self.reloading = False
        self.commands: list[Command] = []  # what the last event led to

    # -- events --------------------------------------------------------------------------------------------

    def boot(self) -> "World":
        return self._carry_out(self.supervisor.boot(self.now))

    def started(self, worker: Worker) -> "World":
        return self._carry_out(self.supervisor.started(worker, self.now))

    def exits(self, worker: Worker, exit: ExitReport = KILLED, failure: str | None = None) -> "World":
        if failure is not None:
            worker.failure = failure
        self.living.remove(worker)
        return self._carry_out(self.supervisor.exited(worker, exit, self.now))

    def reload(self, *, agent: bool = False) -> "World":
        self.reloading = (
            self.reloading or self.supervisor.phase is Phase.SERVING or self.supervisor.settings.retries_boot
        )
        return self._carry_out(self.supervisor.reload(self.now, agent=agent))

    def falls_silent(self, worker: Worker) -> "World":
        """Its loop stands still from now on."""
        self.silent[worker] = self.now
        return self

    def oversleeps(self, seconds: float) -> "World":
        """The master itself does not run for so long."""
        self.now += seconds
        return self._carry_out([])

    def close(self) -> "World":
        return self._carry_out(self.supervisor.close(self.now))

    def cut_short(self) -> "World":
        return self._carry_out(self.supervisor.cut_short())

    def pass_time(self, seconds: float) -> "World":
        """Time passes; the supervisor is woken at each of its deadlines on the way."""
        end = self.now + seconds
        collected: list[Command] = []
        while (deadline := self.supervisor.next_deadline()) is not None and deadline <= end:
            self.now = deadline
            collected += self._carry_out([]).commands
        self.now = end
        self._carry_out([])
        self.commands = collected + self.commands
        return self

    # -- what there is -------------------------------------------------------------------------------------

    @property
    def agent(self) -> Worker:
        (agent,) = (worker for worker in self.living if isinstance(worker, AgentWorker))
        return agent

    def apps(self, slot: int | None = None) -> list[Worker]:
        """The living app workers, the oldest first."""
        return [w for w in self.living if isinstance(w, AppWorker) and slot in (None, w.slot)]

    def app(self, slot: int) -> Worker:
        (worker,) = self.apps(slot)
        return worker

    def given(self, kind: type[C]) -> list[C]:
        """The commands of one kind that the last event led to."""
        return [command for command in self.commands if isinstance(command, kind)]

    def stopped(self) -> list[Worker]:
        return [worker for command in self.given(Stop) for worker in command.workers]

    def forked(self) -> list[Worker]:
        return [worker for command in self.given(Fork) for worker in command.workers]

    # -- carrying out ----------------------------------------------------------------------------------------

    def _carry_out(self, commands: list[Command]) -> "World":
        commands = commands + self.supervisor.tick(self.now)
        if ReadHeartbeats() in commands:
            commands.remove(ReadHeartbeats())  # of no interest to tests that ask what an event led to
            commands += self.supervisor.heartbeats_read(self._signs(), self.now)
        self.commands = commands
        for command in commands:
            match command:
                case Fork(workers):
                    for worker in workers:
                        self._fork(worker)
                case Stop(workers, grace):
                    for worker in workers:
                        self._stop(worker, grace)
                case Kill(worker):
                    self._kill(worker)
                case Abort(worker):
                    self._abort(worker)
                case ReloadEnded():
                    self.reloading = False
        deadline = self.supervisor.next_deadline()
        assert deadline is None or deadline > self.now, "the master would spin"
        return self

    def _signs(self) -> dict[Worker, Heartbeat]:
        signs = {}
        for worker in self.living:
            load = self.loads.get(worker, Heartbeat())
            signs[worker] = replace(load, beat=self.silent.get(worker, self.now))
        return signs

    def _fork(self, worker: Worker) -> None:
        assert worker not in self.all, "an incarnation is never used again"
        at_once_stopped = worker.state is not WorkerState.STARTING  # closing began in the same moment
        assert self.supervisor.phase <= Phase.SERVING or at_once_stopped, "no worker is started while closing"
        if isinstance(worker, AgentWorker):
            assert not any(isinstance(other, AgentWorker) for other in self.living), "two agents"
        worker.worker_id = 5000 + len(self.all)
        self.all.append(worker)
        self.living.append(worker)

    def _stop(self, worker: Worker, grace: float) -> None:
        assert worker in self.living
        assert worker not in self.ordered
        closing = self.supervisor.phase > Phase.SERVING
        recycled = any(isinstance(command, Log) and "taken over" in command.text for command in self.commands)
        assert closing or self.reloading or recycled, f"{worker} is stopped for nothing"
        if worker.slot and not closing:
            assert self.supervisor.slots[worker.slot - 1].listening, f"{worker} is stopped before another one listens"
            assert self.supervisor.roster.draining <= self.supervisor.settings.most_draining, "too many drain"
        if isinstance(worker, AgentWorker) and closing:
            assert not self.apps(), "the agent closes after the app workers"
        self.ordered[worker] = grace

    def _kill(self, worker: Worker) -> None:
        assert worker in self.living
        if self.supervisor.phase <= Phase.SERVING:
            assert worker.state is not WorkerState.LISTENING, f"{worker!r} is killed for nothing"
            assert worker not in self.killed, "one kill is enough"
        self.killed.add(worker)

    def _abort(self, worker: Worker) -> None:
        assert worker in self.living
        assert worker in self.silent, f"{worker!r} moves, and is taken for hung"
        assert worker.state is WorkerState.LISTENING
        assert worker not in self.aborted, "once is enough"
        self.aborted.add(worker)


def booted(workers: int = 2, **plan: Any) -> World:
    """A world that serves."""
    world = World(workers, **plan).boot()
    world.started(world.agent)
    for worker in world.apps():
        world.started(worker)
    assert world.supervisor.phase is Phase.SERVING
    return world
