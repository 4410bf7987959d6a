"""Any sequence of things that can happen to a cluster, and what holds whatever happens."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from eggcluster.model.lives.health import IDLE_CHECK_INTERVAL
from eggcluster.model.lives.phase import Phase
from eggcluster.model.lives.settings import RecycleLimits
from eggcluster.model.lives.worker import ExitReport, Heartbeat, Worker, WorkerState
from tests.unit.world import World

EXITS = st.sampled_from([ExitReport(code=0), ExitReport(code=1), ExitReport(signal="SIGKILL"), ExitReport()])


class AnyLife(RuleBasedStateMachine):
    """The world asserts at each command that it may be given; here is what happens in it."""

    @initialize(
        workers=st.integers(1, 3),
        replace=st.booleans(),
        strict=st.booleans(),
        boots=st.integers(0, 3),
        draining=st.integers(0, 2),
    )
    def boot(self, workers: int, replace: bool, strict: bool, boots: int, draining: int) -> None:
        times = {"app_start_timeout": 8, "agent_start_timeout": 9, "worker_timeout": 3, "agent_timeout": 4}
        limits = RecycleLimits(requests=100, lifetime=60)
        self.world = World(workers, replace_apps=replace, strict=strict, limits=limits, max_draining=draining, **times)
        self.world.boot()
        if boots:  # most lives begin with a boot that goes well
            self._start_all()
            self._start_all()

    @property
    def phase(self) -> Phase:
        return self.world.supervisor.phase

    @precondition(lambda self: self.world.living)
    @rule(data=st.data())
    def one_reports_started(self, data: st.DataObject) -> None:
        """Also twice, and after the order to stop: reports cross orders."""
        self.world.started(data.draw(st.sampled_from(self.world.living)))

    @precondition(lambda self: self._starting())
    @rule(data=st.data())
    def one_starts(self, data: st.DataObject) -> None:
        self.world.started(data.draw(st.sampled_from(self._starting())))

    @precondition(lambda self: self._starting())
    @rule()
    def all_start(self) -> None:
        self._start_all()

    @precondition(lambda self: self._starting())
    @rule(data=st.data(), exit=EXITS)
    def one_dies_while_starting(self, data: st.DataObject, exit: ExitReport) -> None:
        if self.phase is Phase.SERVING:
            self.world.exits(data.draw(st.sampled_from(self._starting())), exit)

    @precondition(lambda self: self.world.living)
    @rule(data=st.data(), exit=EXITS, failure=st.sampled_from([None, None, "", "why\nhow"]))
    def one_exits(self, data: st.DataObject, exit: ExitReport, failure: str | None) -> None:
        if self.phase < Phase.SERVING and data.draw(st.integers(0, 3)):
            return  # most lives get beyond the boot
        self.world.exits(data.draw(st.sampled_from(self.world.living)), exit, failure)

    @precondition(lambda self: self.phase is Phase.SERVING and self.world.apps())
    @rule(exit=EXITS)
    def the_newest_app_worker_dies(self, exit: ExitReport) -> None:
        self.world.exits(self.world.apps()[-1], exit)

    @precondition(lambda self: self.world.ordered or self.world.killed or self.world.aborted)
    @rule()
    def who_was_told_to_exits(self) -> None:
        for worker in [w for w in self.world.living if self._told(w)]:
            self.world.exits(worker)

    @rule()
    def the_next_deadline_comes(self) -> None:
        """The next one at which something is due: at a look everything may be as it was."""
        if (deadline := self._next_due()) < float("inf"):
            self.world.pass_time(max(0.0, deadline - self.world.now))

    @rule(seconds=st.sampled_from([0.1, 1.0, 1.0, 8.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(agent=st.booleans())
    def reload(self, agent: bool) -> None:
        self.world.reload(agent=agent)

    @precondition(lambda self: self.world.living)
    @rule(data=st.data())
    def a_loop_stands_still(self, data: st.DataObject) -> None:
        self.world.falls_silent(data.draw(st.sampled_from(self.world.living)))

    @rule()
    def all_loops_move_again(self) -> None:
        self.world.silent.clear()

    @rule(seconds=st.sampled_from([2.0, 5.0, 100.0]))
    def the_master_does_not_run(self, seconds: float) -> None:
        before = self.world.killed | self.world.aborted
        due_anyway = self._next_due() < self.world.now + 2 * IDLE_CHECK_INTERVAL
        self.world.oversleeps(seconds)
        assert due_anyway or self.world.killed | self.world.aborted == before

    @precondition(lambda self: self.world.apps())
    @rule(data=st.data(), requests=st.integers(0, 200))
    def requests_come(self, data: st.DataObject, requests: int) -> None:
        self.world.loads[data.draw(st.sampled_from(self.world.apps()))] = Heartbeat(requests=requests)

    @precondition(lambda self: self.phase is Phase.SERVING)
    @rule()
    def all_goes_well_for_a_while(self) -> None:
        """Then every slot listens (if it is to be filled), and no reload hangs."""
        for _ in range(30):
            self._start_all()
            self.who_was_told_to_exits()
            if self.phase is Phase.SERVING and not self._quiet():
                self.world.pass_time(1)
        if self.phase is not Phase.SERVING:
            return  # the health check has closed it
        supervisor = self.world.supervisor
        assert not self.world.reloading
        assert supervisor.agent.listening
        assert all(slot.listening or not supervisor.settings.replace_apps for slot in supervisor.slots)
        assert len(self.world.apps()) == len(supervisor.listening_apps())

    @precondition(lambda self: self.phase is Phase.SERVING)
    @rule(chance=st.integers(0, 9))
    def close(self, chance: int) -> None:
        if chance == 0:
            self.world.close()

    @precondition(lambda self: Phase.SERVING < self.phase < Phase.STOPPED)
    @rule()
    def cut_short(self) -> None:
        self.world.cut_short()

    @invariant()
    def its_books_agree_with_the_world(self) -> None:
        assert set(self.world.supervisor.roster.living()) == set(self.world.living)
        successors = [slot for slot in self.world.supervisor.slots if slot.successor is not None]
        rolling = self.world.supervisor._rollout is not None
        assert len(successors) <= 1 if rolling or self.world.reloading else not successors
        assert self.world.supervisor.agent.successor is None

    @invariant()
    def no_dead_worker_is_forgotten(self) -> None:
        supervisor = self.world.supervisor
        if self.phase is Phase.SERVING:
            for slot in (supervisor.agent, *supervisor.slots):
                rolling = slot.number == 0 and slot.retiring and self.world.reloading  # stopped first, then started
                filled = slot.current is not None or slot.next_try is not None or rolling
                assert filled or (slot.number and not supervisor.settings.replace_apps)

    def teardown(self) -> None:
        """Whatever has happened: it can be closed, by orderly exits or by the deadline alone."""
        if not hasattr(self, "world"):
            return
        self.world.close()
        orderly = len(self.world.all) % 2 == 0
        for _ in range(3 * len(self.world.living) + 3):
            if orderly:
                self.who_was_told_to_exits()
            else:
                self.the_next_deadline_comes()
        assert self.world.supervisor.finished

    def _told(self, worker: Worker) -> bool:
        return worker in self.world.ordered or worker in self.world.killed or worker in self.world.aborted

    def _next_due(self) -> float:
        supervisor = self.world.supervisor
        due = (*supervisor.roster.deadlines(), supervisor.health.due, supervisor._close_deadline)
        return min((instant for instant in due if instant is not None), default=float("inf"))

    def _starting(self) -> list[Worker]:
        return [worker for worker in self.world.living if worker.state is WorkerState.STARTING]

    def _start_all(self) -> None:
        for worker in self._starting():
            self.world.started(worker)

    def _quiet(self) -> bool:
        slots = (self.world.supervisor.agent, *self.world.supervisor.slots)
        return all(slot.next_try is None for slot in slots) and not any(
            worker.state is not WorkerState.LISTENING for worker in self.world.living
        )


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
