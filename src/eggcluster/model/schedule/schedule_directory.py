"""The directory: which app workers listen, and which scheduled tasks each has. Pure; runs in the agent."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from eggcluster.model.schedule.schedule_terms import ScheduleTerms


@dataclass(frozen=True)
class WorkerTasks:
    """The report of one app worker. `loaded_at` is the instant of CLOCK_MONOTONIC at which it began to load its code:
    the worker that did so later has the newer version."""

    worker_id: int
    slot: int
    generation: int
    loaded_at: float
    tasks: tuple[ScheduleTerms, ...]

    @property
    def address(self) -> str:
        return f"app#{self.slot}"


class ScheduleDirectory:
    """Knows the tasks of each app worker. `own` holds the names of the agent's own tasks, `types` the known types."""

    def __init__(self, own: Collection[str], types: Collection[str]) -> None:
        self._own = own
        self._types = types
        self._by_worker: dict[int, WorkerTasks] = {}
        self._listening: set[int] = set()
        self._terms: dict[str, ScheduleTerms] = {}

    def problem(self, worker_tasks: WorkerTasks, *, booting: bool) -> str | None:
        """Return what is wrong with a report, None if nothing is. While the cluster boots, all workers must have equal
        terms. Later, the newest terms win."""
        for terms in worker_tasks.tasks:
            if problem := self._own_problem(terms):
                return problem
            other = next((a for a in self._by_worker.values() if self._differs(a, terms)), None) if booting else None
            if other is not None:
                theirs = next(t for t in other.tasks if t.name == terms.name)
                return (
                    f'schedule "{terms.name}" must be the same in each worker: {worker_tasks.address} has '
                    f"{terms.describe()}, {other.address} has {theirs.describe()}"
                )
        return None

    def _own_problem(self, terms: ScheduleTerms) -> str | None:
        """Return what is wrong with one task in itself, without comparing workers."""
        if terms.type not in self._types:
            known = ", ".join(f'"{name}"' for name in self._types)
            return (
                f'schedule {terms.function}: type "{terms.type}" is not one of {known}; '
                f"add another type in the agent, with agent.schedule.use(name, Strategy)"
            )
        if terms.name in self._own:
            return f'schedule "{terms.name}" is a task of the agent and also {terms.function}: rename one with name='
        return None

    @staticmethod
    def _differs(worker_tasks: WorkerTasks, terms: ScheduleTerms) -> bool:
        return any(theirs.name == terms.name and theirs != terms for theirs in worker_tasks.tasks)

    def report(self, worker_tasks: WorkerTasks) -> None:
        """Store a worker's report, without the tasks that have a problem."""
        usable = tuple(terms for terms in worker_tasks.tasks if self._own_problem(terms) is None)
        for other in list(self._by_worker.values()):
            if other.slot == worker_tasks.slot and other.generation < worker_tasks.generation:
                self._forget_unless_listening(other)
        self._by_worker[worker_tasks.worker_id] = replace(worker_tasks, tasks=usable)
        self._renew()

    def listen(self, worker_ids: Iterable[int]) -> None:
        """Set which app workers listen; forget those that no longer do."""
        gone = self._listening - set(worker_ids)
        self._listening = set(worker_ids)
        for worker_id in gone:
            self._by_worker.pop(worker_id, None)
        self._renew()

    @property
    def terms(self) -> dict[str, ScheduleTerms]:
        """The known tasks by name, each on the terms of the worker that loaded its code last.

        While no worker listens, the tasks stay, because the next worker will have them. Otherwise a task disappears
        when no listening worker has it.
        """
        return self._terms

    def candidates(self, name: str) -> list[WorkerTasks]:
        """Return the listening workers that have the task on its present terms."""
        terms = self._terms.get(name)
        return [each for each in self._ready() if terms in each.tasks] if terms is not None else []

    def name_of(self, worker_id: int) -> str:
        """Return a worker's name, such as `app#2:4711`."""
        known = self._by_worker.get(worker_id)
        return f"{known.address if known is not None else 'app'}:{worker_id}"

    def _ready(self) -> list[WorkerTasks]:
        return [each for each in self._by_worker.values() if each.worker_id in self._listening]

    def _renew(self) -> None:
        if self._listening:
            oldest_first = sorted(self._ready(), key=lambda each: each.loaded_at)
            self._terms = {terms.name: terms for each in oldest_first for terms in each.tasks}

    def _forget_unless_listening(self, worker_tasks: WorkerTasks) -> None:
        if worker_tasks.worker_id not in self._listening:
            del self._by_worker[worker_tasks.worker_id]
