"""The table of an incarnation's states, and how an incarnation is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.lives.worker import TRANSITIONS, AgentWorker, AppWorker, ExitReport, WorkerState


def worker() -> AppWorker:
    return AppWorker(slot=2, generation=3, born=0, start_deadline=60, worker_id=4711)


def test_every_state_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(WorkerState)


def test_there_is_no_way_back_and_none_out_of_death() -> None:
    order = list(WorkerState)
    assert all(order.index(after) > order.index(before) for before in TRANSITIONS for after in TRANSITIONS[before])
    assert not TRANSITIONS[WorkerState.DEAD]
    assert all(WorkerState.DEAD in TRANSITIONS[state] for state in order[:-1])


@given(st.lists(st.sampled_from(list(WorkerState))))
def test_only_what_the_table_holds_can_happen(moves: list[WorkerState]) -> None:
    subject = worker()
    for state in moves:
        before = subject.state
        if state in TRANSITIONS[before]:
            subject.advance(state)
            assert subject.state is state
        else:
            with pytest.raises(AssertionError, match="BUG"):
                subject.advance(state)
            assert subject.state is before


def test_one_way_to_name_it() -> None:
    assert str(worker()) == "app_worker#2:4711"
    assert repr(worker()) == "<app_worker#2:4711 gen 3 starting>"
    assert str(AgentWorker(0, 1, 0, 60, worker_id=12)) == "agent_worker#1:12"


def test_two_records_are_never_the_same_incarnation() -> None:
    assert worker() != worker()
    assert len({worker(), worker()}) == 2


def test_an_exit_is_told_by_code_and_signal() -> None:
    assert str(ExitReport(signal="SIGKILL")) == "code: None, signal: SIGKILL"
    assert str(ExitReport(code=1)) == "code: 1, signal: None"
