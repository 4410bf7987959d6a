"""Which copy is restored after an agent's death, and any order of deaths, blocked loops, hellos and late notices."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from eggcluster.model.shared.shared_copy import CopyMark, problem_of_copy
from eggcluster.model.shared.shared_store import Delete, Set, Store, Write
from eggcluster.model.shared.shared_table import Change, Table, TableCopy
from eggcluster.model.shared.survivors import OTHER_COPIES_TIMEOUT, Survivors, Verdict
from eggcluster.packing import encode

LATER = OTHER_COPIES_TIMEOUT + 0.1


def survivors(*worker_ids: int) -> Survivors[str]:
    return Survivors(worker_ids)


def test_without_survivors_it_opens_at_once() -> None:
    assert survivors().choose(0) is Verdict.OPEN


def test_it_waits_for_a_living_worker_however_long_that_is_silent() -> None:
    here = survivors(1)
    assert here.choose(1e6) is Verdict.WAIT
    assert here.keep([1, 2]) == set()
    assert here.choose(1e6) is Verdict.WAIT
    assert here.keep([2]) == {1}
    assert here.choose(1e6) is Verdict.OPEN


def test_with_a_copy_at_hand_it_waits_for_the_others_for_a_second() -> None:
    here = survivors(1, 2)
    here.arrive("a", 1, CopyMark(7, 1), 10)
    assert here.choose(10) is Verdict.WAIT
    assert here.choose(10 + LATER) == "a"
    here.arrive("b", 2, CopyMark(8, 1), 10.5)
    assert here.choose(10.5) == "b"


def test_a_closed_connection_has_not_arrived() -> None:
    here = survivors(1)
    here.arrive("a", 1, CopyMark(7, 1), 0)
    here.leave("a")
    here.leave("a")
    assert here.choose(LATER) is Verdict.WAIT
    here.arrive("b", 1, CopyMark(7, 1), 9)
    assert here.choose(9) == "b"


def test_a_worker_that_has_connected_anew_is_not_silent_when_its_old_connection_closes_late() -> None:
    here = survivors(1, 2)
    here.arrive("old", 1, CopyMark(7, 1), 0)
    here.arrive("new", 1, CopyMark(7, 1), 0)
    here.leave("old")
    assert here.silent == {2}


def test_a_worker_without_a_copy_has_answered() -> None:
    here = survivors(1)
    here.arrive("a", 1, None, 0)
    assert here.choose(0) is Verdict.OPEN
    here.leave("a")
    assert here.choose(0) is Verdict.OPEN


def test_an_unusable_copy_is_none_and_a_late_one_is_asked_for_last() -> None:
    here = survivors()
    here.arrive("best", 1, CopyMark(9, 1), 0)
    here.arrive("good", 2, CopyMark(8, 1), 0)
    here.fail("best")
    assert here.choose(0) == "good"
    here.refuse("good")
    assert here.choose(0) == "best"
    here.refuse("best")
    assert here.choose(0) is Verdict.OPEN


# -- any order of things ------------------------------------------------------------------------------------

KEYS = ["a", "b", "c"]
Known = frozenset[int]  # the writes that a table contains, as the test keeps the books: independent of versions
Frame = tuple[str, Any, Known]


@dataclass
class Wire:
    """A connection of a worker's to one agent. What the agent has sent stays readable after its death."""

    worker: int
    generation: int
    to_worker: list[Frame] = field(default_factory=list)
    to_agent: list[tuple[str, Any]] = field(default_factory=list)
    open: bool = True
    follows: bool = False

    def __hash__(self) -> int:
        return id(self)


@dataclass
class AppWorker:
    """A worker: its copy, its connection, and what it has not read yet because its loop stands still."""

    copy: Table = field(default_factory=Table)
    known: Known = frozenset()
    has_copy: bool = False
    wire: Wire | None = None
    notices: list[int] = field(default_factory=list)
    gone: int = 0
    alive: bool = True
    blocked: bool = False


class AnyDeaths(RuleBasedStateMachine):
    """One agent at a time and three workers. The rules are what can happen; `everything_settles` is the judgement."""

    @initialize()
    def boot(self) -> None:
        self.now, self.generation, self.number = 0.0, 0, 0
        self.workers = [AppWorker() for _ in range(3)]
        self.sharing: set[int] = set()  # as the master knows
        self.wires: list[Wire] = []
        self.expected: dict[str, tuple[int, Any]] = {}  # the last acknowledged write of each key, and its value
        self.agent: Survivors[Wire] | None = None
        self.start_agent()

    # -- the agent ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.agent is None)
    @rule()
    def start_agent(self) -> None:
        self.generation += 1
        self.store, self.known = Store(self.generation), frozenset[int]()
        self.agent, self.open = Survivors(self.living_sharers()), False
        self.look()

    def living_sharers(self) -> list[int]:
        return [each for each in self.sharing if self.workers[each].alive]

    @precondition(lambda self: self.agent is not None)
    @rule()
    def agent_dies(self) -> None:
        self.agent, self.open = None, False
        for wire in self.wires:
            wire.open = False
        for worker in self.workers:
            worker.notices.append(self.generation)
        self.excuse()

    @precondition(lambda self: self.agent is not None)
    @rule(passed=st.sampled_from([0.0, 0.3, LATER]))
    def look(self, passed: float = 0.0) -> None:
        """The agent asks the master who lives, and decides."""
        self.now += passed
        if self.agent is None or self.open:
            return
        self.agent.keep(self.living_sharers())
        chosen = self.agent.choose(self.now)
        if chosen is Verdict.OPEN:
            holders = [each for each in self.living_sharers() if self.workers[each].has_copy]
            assert not holders, "it opened empty, though a worker with a copy lives"
            self.open = True
        elif isinstance(chosen, Wire):
            if (copy := self.fetch(chosen)) is not None:
                self.store.restore(copy)
                self.known, self.open = self.workers[chosen.worker].known, True
            else:
                self.agent.fail(chosen)

    def fetch(self, wire: Wire) -> TableCopy | None:
        """The copy at the other end; None if its loop stands still, or it has left this connection."""
        worker = self.workers[wire.worker]
        if worker.blocked or not worker.alive or worker.wire is not wire:
            return None
        assert problem_of_copy(worker.copy.copy(), self.generation) == ""
        return worker.copy.copy()

    @precondition(lambda self: self.agent is not None and any(wire.to_agent for wire in self.wires))
    @rule(data=st.data())
    def agent_reads(self, data: st.DataObject) -> None:
        self.read_one(data.draw(st.sampled_from([wire for wire in self.wires if wire.to_agent])))

    def read_one(self, wire: Wire) -> None:
        assert self.agent is not None
        if wire.generation != self.generation:
            wire.to_agent.clear()
            return
        what, mark = wire.to_agent.pop(0)
        if what == "hello":
            self.agent.arrive(wire, wire.worker, mark, self.now)
        elif what == "closed":
            self.agent.leave(wire)
            wire.follows = wire.open = False
        elif wire.open and self.open and self.settle(wire):
            self.send_copy(wire)
        elif wire.open:
            wire.to_agent.append((what, mark))  # it waits, in a task of its own

    def settle(self, wire: Wire) -> bool:
        """Merge the copy of a late worker; False if it does not come."""
        assert self.agent is not None
        mark = self.agent.mark(wire)
        if mark is None or self.store.contains(*mark):
            return True
        if (copy := self.fetch(wire)) is None:
            return False
        self.store.adopt(copy, self.now)
        self.known |= self.workers[wire.worker].known
        self.store.changes.clear()
        for follower in [each for each in self.wires if each.follows]:
            self.send_copy(follower)
        return True

    def send_copy(self, wire: Wire) -> None:
        wire.follows = True
        wire.to_worker.append(("copy", self.store.copy(), self.known))

    @precondition(lambda self: self.open)
    @rule(key=st.sampled_from(KEYS), delete=st.booleans())
    def write(self, key: str, delete: bool) -> None:
        """An acknowledged write: it is handed to the kernel for every follower."""
        self.number += 1
        write: Write = Delete(key) if delete else Set(key, encode(self.number))
        self.store.carry_out(write, self.now)
        self.known |= {self.number}
        for change in self.store.changes:
            for wire in self.wires:
                if wire.follows and wire.open:
                    wire.to_worker.append(("change", change, frozenset({self.number})))
        if self.store.changes:
            self.expected[key] = self.number, None if delete else self.number
        self.store.changes.clear()

    # -- the workers -------------------------------------------------------------------------------------

    def running(self) -> list[int]:
        return [each for each, worker in enumerate(self.workers) if worker.alive and not worker.blocked]

    @precondition(lambda self: any(worker.alive for worker in self.workers))
    @rule(data=st.data())
    def loop_stands_still_or_goes_on(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([worker for worker in self.workers if worker.alive]))
        worker.blocked = not worker.blocked

    @precondition(lambda self: self.running() and self.agent is not None)
    @rule(data=st.data())
    def worker_connects(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.running()))
        if self.workers[number].wire is None:
            self.connect(number)

    def connect(self, number: int) -> None:
        worker = self.workers[number]
        self.sharing.add(number)  # the master knows before the worker asks for a copy
        worker.wire = wire = Wire(number, self.generation)
        mark = CopyMark(worker.copy.version, worker.copy.generation) if worker.has_copy else None
        wire.to_agent += [("hello", mark), ("follow", None)]
        self.wires.append(wire)

    @precondition(lambda self: self.running())
    @rule(data=st.data(), notices_first=st.booleans())
    def worker_reads(self, data: st.DataObject, notices_first: bool) -> None:
        """Both sockets, in either order: a notice may come late, or before the end of the connection."""
        worker = self.workers[data.draw(st.sampled_from(self.running()))]
        for read in [self.read_notices, self.read_wire] if notices_first else [self.read_wire, self.read_notices]:
            read(worker)

    @precondition(lambda self: any(self.workers[each].wire for each in self.running()))
    @rule(data=st.data())
    def connection_breaks(self, data: st.DataObject) -> None:
        """What was sent over it is lost: the worker is behind until it has a new copy."""
        self.leave(self.workers[data.draw(st.sampled_from([n for n in self.running() if self.workers[n].wire]))])

    def read_notices(self, worker: AppWorker) -> None:
        worker.gone = max([worker.gone, *worker.notices])
        worker.notices.clear()
        if worker.wire is not None and worker.wire.generation <= worker.gone:
            self.read_wire(worker)  # what it has written is still read
            self.leave(worker)

    def leave(self, worker: AppWorker) -> None:
        if worker.wire is not None:
            worker.wire.to_agent.append(("closed", None))
            worker.wire = None

    def read_wire(self, worker: AppWorker) -> None:
        if (wire := worker.wire) is None:
            return
        for frame in wire.to_worker:
            self.take(worker, frame)
        wire.to_worker.clear()
        if not wire.open:
            self.leave(worker)

    def take(self, worker: AppWorker, frame: Frame) -> None:
        what, content, known = frame
        if what == "copy":
            worker.copy.replace(content)
            worker.known, worker.has_copy = known, True
        else:
            change: Change = content
            worker.copy.apply(*change)
            worker.known |= known

    @precondition(lambda self: any(worker.alive for worker in self.workers))
    @rule(data=st.data())
    def worker_dies_and_is_replaced(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from([n for n, worker in enumerate(self.workers) if worker.alive]))
        self.leave(self.workers[number])
        self.workers[number].alive = False
        self.workers.append(AppWorker(gone=self.generation - 1))
        self.excuse()

    @precondition(lambda self: self.open and len([each for each in self.workers if each.alive and each.has_copy]) > 1)
    @rule(key=st.sampled_from(KEYS), delete=st.booleans(), also_blocked=st.booleans())
    def agent_dies_and_the_one_behind_answers_first(self, key: str, delete: bool, also_blocked: bool) -> None:
        """A copy that lacks a write is restored, because the loops of the others stand still for too long."""
        self.everything_settles()
        behind, *others = [each for each in self.workers if each.alive and each.has_copy]
        self.leave(behind)
        self.write(key, delete)
        self.agent_dies()
        for each in others:
            each.blocked = True
        self.read_notices(behind)
        self.start_agent()
        self.connect(self.workers.index(behind))
        for wire in [wire for wire in self.wires if wire.generation == self.generation]:
            self.read_one(wire)
        behind.blocked = also_blocked
        self.look(LATER)

    def excuse(self) -> None:
        """What is in no living worker's copy, nor on its way to one, nor in an agent, is lost: nothing can help."""
        there = set(self.known) if self.open else set()
        for worker in self.workers:
            if worker.alive:
                on_the_way = [known for _, _, known in worker.wire.to_worker] if worker.wire else []
                there |= worker.known.union(*on_the_way)
        self.expected = {key: each for key, each in self.expected.items() if each[0] in there}

    # -- the judgement -----------------------------------------------------------------------------------

    @rule()
    def everything_settles(self) -> None:
        """All loops run, everything is read: then what was acknowledged is there, in the agent and in each copy."""
        if self.agent is None:
            self.start_agent()
        for worker in self.workers:
            worker.blocked = False
        for _ in range(8):
            for number, worker in enumerate(self.workers):
                if worker.alive:
                    self.read_wire(worker)
                    self.read_notices(worker)
                    if worker.wire is None:
                        self.connect(number)
            for wire in self.wires:
                for _ in range(len(wire.to_agent)):
                    if wire.to_agent:
                        self.read_one(wire)
            self.look(LATER)
        assert self.open
        for table in [self.store, *(worker.copy for worker in self.workers if worker.alive)]:
            for key, (_, value) in self.expected.items():
                entry = table.find(key, self.now)
                assert (entry.raw if entry else None) == (None if value is None else encode(value)), key
        self.wires = [wire for wire in self.wires if wire.open]

    @invariant()
    def versions_fit(self) -> None:
        if self.agent is not None:
            assert self.store.version < (self.generation + 1) << 40


AnyDeaths.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestAnyDeaths = AnyDeaths.TestCase
