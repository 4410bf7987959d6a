"""A seat's bookkeeping: who sits there, who comes next, who is on the way out."""

from eggcluster.model.lives.restart_budget import RestartBudget
from eggcluster.model.lives.roster import Slot
from eggcluster.model.lives.worker import AgentWorker, AppWorker, WorkerState


def slot(number: int = 1) -> Slot:
    return Slot(number, 60.0, RestartBudget())


def test_slot_0_is_the_agents() -> None:
    assert isinstance(slot(0).new_worker(0), AgentWorker)
    assert isinstance(slot(3).new_worker(0), AppWorker)


def test_generations_count_up_whatever_becomes_of_them() -> None:
    seat = slot()
    for generation in (1, 2, 3):
        worker = seat.new_worker(0)
        assert worker.generation == generation
        seat.bury(worker)


def test_the_start_deadline_is_the_timeout_from_now() -> None:
    assert slot().new_worker(10).start_deadline == 70


def test_a_new_one_beside_a_living_one_is_its_successor() -> None:
    seat = slot()
    first, second = seat.new_worker(0), seat.new_worker(0)
    assert (seat.current, seat.successor) == (first, second)
    assert list(seat.living()) == [first, second]


def test_the_successor_moves_up_when_the_current_one_retires() -> None:
    seat = slot()
    first, second = seat.new_worker(0), seat.new_worker(0)
    seat.retire(first)
    assert (seat.current, seat.successor, seat.retiring) == (second, None, [first])
    assert set(seat.living()) == {first, second}


def test_the_successor_moves_up_when_the_current_one_dies() -> None:
    seat = slot()
    first, second = seat.new_worker(0), seat.new_worker(0)
    seat.bury(first)
    assert (seat.current, seat.successor) == (second, None)


def test_a_successor_that_dies_leaves_the_current_one_alone() -> None:
    seat = slot()
    first, second = seat.new_worker(0), seat.new_worker(0)
    seat.bury(second)
    assert list(seat.living()) == [first]


def test_the_state_of_a_seat_is_its_current_workers_or_that_of_those_who_leave() -> None:
    seat = slot()
    seen = [(seat.state, seat.listening)]
    worker = seat.new_worker(0)
    seen.append((seat.state, seat.listening))
    worker.advance(WorkerState.LISTENING)
    seen.append((seat.state, seat.listening))
    seat.retire(worker)
    seen.append((seat.state, seat.listening))
    seat.bury(worker)
    seen.append((seat.state, seat.listening))
    assert [state.value for state, _ in seen] == ["dead", "starting", "listening", "stopping", "dead"]
    assert [listening for _, listening in seen] == [False, False, True, False, False]


def test_who_sits_down_ends_the_waiting_for_the_next_try() -> None:
    seat = slot()
    seat.next_try = 5.0
    seat.new_worker(0)
    assert seat.next_try is None
