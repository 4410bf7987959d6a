"""Which app worker has which scheduled tasks, and which of them listen: what the agent knows of them. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from eggcluster.model.schedule.schedule_terms import ScheduleTerms


@dataclass(frozen=True)
class WorkerTasks:
    """What one app worker tells the agent. `loaded_at` is when it began to load its code, in seconds of the machine's
    monotonic clock: of two versions the later one is the newer."""

    worker_id: int
    slot: int
    generation: int
    loaded_at: float
    tasks: tuple[ScheduleTerms, ...]

    @property
    def place(self) -> str:
        return f"app#{self.slot}"


class ScheduleDirectory:
    """`own` are the names of the agent's own tasks, `types` the types that it knows."""

    def __init__(self, own: Collection[str], types: Collection[str]) -> None:
        self._own = own
        self._types = types
        self._by_worker: dict[int, WorkerTasks] = {}
        self._listening: set[int] = set()
        self._terms: dict[str, ScheduleTerms] = {}

    def problem(self, worker_tasks: WorkerTasks, *, booting: bool) -> str | None:
        """Why this cannot be; while the cluster boots, also that another worker has other terms. Later on they may
        differ: the newest win."""
        for terms in worker_tasks.tasks:
            if problem := self._own_problem(terms):
                return problem
            other = next((a for a in self._by_worker.values() if self._differs(a, terms)), None) if booting else None
            if other is not None:
                theirs = next(t for t in other.tasks if t.name == terms.name)
                return (
                    f'schedule "{terms.name}" has one meaning in each worker: {worker_tasks.place} has '
                    f"{terms.describe()}, {other.place} has {theirs.describe()}"
                )
        return None

    def _own_problem(self, terms: ScheduleTerms) -> str | None:
        """What the agent alone can tell of one task."""
        if terms.type not in self._types:
            known = ", ".join(f'"{name}"' for name in self._types)
            return (
                f'schedule {terms.function}: type "{terms.type}" is none of {known}; '
                f"others are made known in the agent, with agent.schedule.use(name, Strategy)"
            )
        if terms.name in self._own:
            return f'schedule "{terms.name}" is both the agent\'s and {terms.function}: give one another name='
        return None

    @staticmethod
    def _differs(worker_tasks: WorkerTasks, terms: ScheduleTerms) -> bool:
        return any(theirs.name == terms.name and theirs != terms for theirs in worker_tasks.tasks)

    def report(self, worker_tasks: WorkerTasks) -> None:
        """A worker told what it has; tasks that cannot be are left out."""
        usable = tuple(terms for terms in worker_tasks.tasks if self._own_problem(terms) is None)
        for other in list(self._by_worker.values()):
            if other.slot == worker_tasks.slot and other.generation < worker_tasks.generation:
                self._forget_unless_listening(other)
        self._by_worker[worker_tasks.worker_id] = replace(worker_tasks, tasks=usable)
        self._renew()

    def listen(self, worker_ids: Iterable[int]) -> None:
        """These app workers listen, and no others."""
        gone = self._listening - set(worker_ids)
        self._listening = set(worker_ids)
        for worker_id in gone:
            self._by_worker.pop(worker_id, None)
        self._renew()

    @property
    def terms(self) -> dict[str, ScheduleTerms]:
        """The tasks that there are, by name, each on the terms of the worker that loaded its code last.

        While no worker listens they stay: the next worker will have them. One that none of the listening workers has
        is gone.
        """
        return self._terms

    def candidates(self, name: str) -> list[WorkerTasks]:
        """The listening workers that have the task, on its present terms."""
        terms = self._terms.get(name)
        return [each for each in self._ready() if terms in each.tasks] if terms is not None else []

    def place_of(self, worker_id: int) -> str:
        """A worker's name, such as `app#2:4711`."""
        known = self._by_worker.get(worker_id)
        return f"{known.place if known is not None else 'app'}:{worker_id}"

    def _ready(self) -> list[WorkerTasks]:
        return [each for each in self._by_worker.values() if each.worker_id in self._listening]

    def _renew(self) -> None:
        if self._listening:
            oldest_first = sorted(self._ready(), key=lambda each: each.loaded_at)
            self._terms = {terms.name: terms for each in oldest_first for terms in each.tasks}

    def _forget_unless_listening(self, worker_tasks: WorkerTasks) -> None:
        if worker_tasks.worker_id not in self._listening:
            del self._by_worker[worker_tasks.worker_id]
