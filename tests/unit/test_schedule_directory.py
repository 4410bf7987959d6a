"""The schedule directory: which worker has which task, on which terms, and what is refused."""

from typing import Any

from eggcluster.model.schedule.schedule_directory import ScheduleDirectory, WorkerTasks
from eggcluster.model.schedule.schedule_terms import ScheduleTerms


def poll(interval: float = 10, **more: Any) -> ScheduleTerms:
    return ScheduleTerms(**{"name": "poll", "function": "jobs.poll", "type": "worker", "interval": interval, **more})


def worker(slot: int, *tasks: ScheduleTerms, loaded_at: float = 0, generation: int = 1) -> WorkerTasks:
    return WorkerTasks(slot * 100 + generation, slot, generation, loaded_at or slot, tasks)


def directory(*reports: WorkerTasks, listen: bool = True) -> ScheduleDirectory:
    known = ScheduleDirectory({"mine"}, ["worker", "all"])
    for each in reports:
        known.report(each)
    if listen:
        known.listen([each.worker_id for each in reports])
    return known


def test_only_workers_that_listen_and_have_the_task_run_it() -> None:
    one, two, three = worker(1, poll()), worker(2), worker(3, poll())
    known = directory(one, two, three)
    assert known.candidates("poll") == [one, three]
    known.listen([two.worker_id, three.worker_id])
    assert known.candidates("poll") == [three]
    assert known.candidates("other") == []


def test_a_booting_worker_gets_no_runs() -> None:
    known = directory(worker(1, poll()), listen=False)
    assert known.terms == {}
    assert known.candidates("poll") == []


def test_without_a_listening_worker_the_tasks_stay() -> None:
    known = directory(worker(1, poll()))
    known.listen([])
    assert list(known.terms) == ["poll"]
    assert known.candidates("poll") == []


def test_a_task_that_no_listening_worker_has_is_gone() -> None:
    old, new = worker(1, poll()), worker(1, generation=2, loaded_at=5)
    known = directory(old)
    known.report(new)
    known.listen([new.worker_id])
    assert known.terms == {}


def test_the_terms_of_the_worker_that_loaded_its_code_last_win() -> None:
    old, new = worker(1, poll(10)), worker(2, poll(20), generation=2, loaded_at=99)
    for order in ([old, new], [new, old]):
        known = directory(*order)
        assert known.terms == {"poll": poll(20)}
        assert known.candidates("poll") == [new]  # the other one has another version of it
    known.listen([old.worker_id])
    assert known.terms == {"poll": poll(10)}


def test_different_terms_are_a_problem_while_the_cluster_boots_that_names_both() -> None:
    known = directory(worker(1, poll(10, overlap="queue")), listen=False)
    other = worker(2, poll(20, function="other.poll"))
    assert known.problem(other, booting=True) == (
        'schedule "poll" must be the same in each worker: app#2 has other.poll (every 20s, type worker), '
        "app#1 has jobs.poll (every 10s, type worker, overlap queue)"
    )
    assert known.problem(other, booting=False) is None
    assert known.problem(worker(2, poll(10, overlap="queue")), booting=True) is None


def test_an_unknown_type_is_a_problem_and_such_a_task_is_left_out() -> None:
    known = directory()
    strange = worker(1, poll(type="redis"), poll(name="good"))
    assert known.problem(strange, booting=False) == (
        'schedule jobs.poll: type "redis" is not one of "worker", "all"; '
        "add another type in the agent, with agent.schedule.use(name, Strategy)"
    )
    known.report(strange)
    known.listen([strange.worker_id])
    assert list(known.terms) == ["good"]


def test_a_name_of_the_agents_own_is_a_problem() -> None:
    problem = directory().problem(worker(1, poll(name="mine")), booting=False)
    assert problem == 'schedule "mine" is a task of the agent and also jobs.poll: rename one with name='


def test_a_worker_that_died_while_booting_is_forgotten_when_its_slot_has_the_next() -> None:
    known = directory()
    for generation in range(1, 100):
        known.report(worker(1, poll(), generation=generation))
    assert len(known._by_worker) == 1


def test_a_worker_has_a_name() -> None:
    known = directory(worker(1, poll()))
    assert known.name_of(101) == "app#1:101"
    assert known.name_of(999) == "app:999"
