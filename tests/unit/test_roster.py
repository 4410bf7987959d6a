"""A slot's bookkeeping: its current worker, the next one, and those that leave."""

from eggcluster.model.lives.roster import RestartBudget, Roster, Slot
from eggcluster.model.lives.settings import SupervisorSettings
from eggcluster.model.lives.worker import AgentWorker, AppWorker, WorkerState


def new_slot(number: int = 1) -> Slot:
    return Slot(number, 60.0, RestartBudget())


def test_slot_0_is_the_agents() -> None:
    assert isinstance(new_slot(0).new_worker(0), AgentWorker)
    assert isinstance(new_slot(3).new_worker(0), AppWorker)


def test_generations_count_up_whatever_becomes_of_them() -> None:
    slot = new_slot()
    for generation in (1, 2, 3):
        worker = slot.new_worker(0)
        assert worker.generation == generation
        slot.remove_dead(worker)


def test_the_start_deadline_is_the_timeout_from_now() -> None:
    assert new_slot().new_worker(10).start_deadline == 70


def test_a_new_one_beside_a_living_one_is_its_successor() -> None:
    slot = new_slot()
    first, second = slot.new_worker(0), slot.new_worker(0)
    assert (slot.current, slot.successor) == (first, second)
    assert list(slot.living()) == [first, second]


def test_the_successor_moves_up_when_the_current_one_retires() -> None:
    slot = new_slot()
    first, second = slot.new_worker(0), slot.new_worker(0)
    slot.retire(first)
    assert (slot.current, slot.successor, slot.retiring) == (second, None, [first])
    assert set(slot.living()) == {first, second}


def test_the_successor_moves_up_when_the_current_one_dies() -> None:
    slot = new_slot()
    first, second = slot.new_worker(0), slot.new_worker(0)
    slot.remove_dead(first)
    assert (slot.current, slot.successor) == (second, None)


def test_a_successor_that_dies_leaves_the_current_one_alone() -> None:
    slot = new_slot()
    first, second = slot.new_worker(0), slot.new_worker(0)
    slot.remove_dead(second)
    assert list(slot.living()) == [first]


def test_the_state_of_a_slot_is_its_current_workers_or_that_of_the_leaving_ones() -> None:
    slot = new_slot()
    seen = [(slot.state, slot.listening)]
    worker = slot.new_worker(0)
    seen.append((slot.state, slot.listening))
    worker.advance(WorkerState.LISTENING)
    seen.append((slot.state, slot.listening))
    slot.retire(worker)
    seen.append((slot.state, slot.listening))
    slot.remove_dead(worker)
    seen.append((slot.state, slot.listening))
    assert [state.value for state, _ in seen] == ["dead", "starting", "listening", "stopping", "dead"]
    assert [listening for _, listening in seen] == [False, False, True, False, False]


def test_a_new_worker_ends_the_wait_for_the_next_try() -> None:
    slot = new_slot()
    slot.next_try = 5.0
    slot.new_worker(0)
    assert slot.next_try is None


def test_the_dead_agent_is_the_one_before_the_oldest_that_lives() -> None:
    """A closing agent is not dead: it still writes into the workers' copies."""
    roster = Roster(SupervisorSettings(workers=1))
    assert roster.dead_agent() == 0
    first = roster.agent.new_worker(0)
    assert roster.dead_agent() == 0
    roster.agent.retire(first)
    second = roster.agent.new_worker(0)
    assert roster.dead_agent() == 0
    roster.agent.remove_dead(first)
    assert roster.dead_agent() == first.generation
    roster.agent.remove_dead(second)
    assert roster.dead_agent() == second.generation


def test_survivors_are_the_app_workers_that_share_and_are_not_known_dead() -> None:
    """In any state: a worker that boots or closes may have the only copy."""
    roster = Roster(SupervisorSettings(workers=3))
    roster.agent.new_worker(0).shares = True
    for number, slot in enumerate(roster.slots, 1):
        slot.new_worker(0).worker_id = 100 + number
    booting, closing, silent = [worker for slot in roster.slots for worker in slot.living()]
    booting.shares = closing.shares = True
    roster.slots[1].retire(closing)
    assert roster.sharing_apps() == [101, 102]
    roster.slots[1].remove_dead(closing)
    assert roster.sharing_apps() == [101]
    assert not silent.shares
