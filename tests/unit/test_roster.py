"""A slot's bookkeeping: its current worker, the next one, and those that leave."""

from eggcluster.model.lives.roster import RestartBudget, Slot
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
