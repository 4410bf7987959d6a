"""Brings runs to app workers and their ends back. Runs in the agent."""

import asyncio
import logging
import random
from typing import Any

from eggcluster.errors import MessengerError, ReceiverDied
from eggcluster.ipc.internal_messenger import InternalMessenger
from eggcluster.model.schedule.schedule_directory import ScheduleDirectory, WorkerTasks
from eggcluster.model.schedule.schedule_run import FAILED, LOST, NOBODY, OK, REFUSED, STOPPED, RunEnd, ScheduleRun
from eggcluster.packing import convert
from eggcluster.worker.schedule.journal import Journal

WAIT_FOR_WORKER = 10.0  # seconds that a run waits for a listening worker; a replacement has mostly come by then


class RunSender:
    """`generation` is the agent's: it makes the ids of its runs its own."""

    def __init__(
        self,
        messenger: InternalMessenger,
        directory: ScheduleDirectory,
        journal: Journal,
        logger: logging.Logger,
        generation: int,
    ) -> None:
        self._messenger = messenger
        self._directory = directory
        self._journal = journal
        self._logger = logger
        self._generation = generation
        self._count = 0
        self._changed = asyncio.Event()

    def new_id(self) -> str:
        """An id that no run of this cluster has had."""
        self._count += 1
        return f"{self._generation}-{self._count}"

    def look_again(self) -> None:
        """The crew has changed: a worker may be there for what waits."""
        self._changed.set()

    async def send_one(self, run: ScheduleRun, args: tuple[Any, ...], retry: int) -> RunEnd:
        """One listening worker, picked at random, runs it. If that one dies or closes meanwhile, another one does,
        `retry` times at most; a worker that refuses has not begun, and does not count."""
        refused: set[int] = set()
        while True:
            workers = await self._workers(run.name, refused)
            if not workers:
                return RunEnd(NOBODY, "no app worker was there to run it")
            worker = random.choice(workers)
            run.where = self._directory.place_of(worker.worker_id)
            end = await self._bring(run, [worker], args)
            if end.outcome == REFUSED:
                refused.add(worker.worker_id)
            elif end.outcome in (LOST, STOPPED) and retry > 0:
                retry -= 1
                refused.add(worker.worker_id)
                self._logger.warning("schedule %s: %s, trying another worker", run.name, end.error)
            else:
                return end

    async def send_all(self, run: ScheduleRun, args: tuple[Any, ...]) -> RunEnd:
        """Every listening worker that has the task runs it; the end is the worst of theirs."""
        workers = await self._workers(run.name, set())
        if not workers:
            return RunEnd(NOBODY, "no app worker was there to run it")
        run.where = f"{len(workers)} workers" if len(workers) > 1 else self._directory.place_of(workers[0].worker_id)
        return await self._bring(run, workers, args)

    async def join(self, name: str, run_id: str, worker_ids: list[int]) -> RunEnd:
        """Wait for the end of a run that a predecessor has ordered."""
        asked = [self._ask(worker_id, "egg-schedule-join", run_id) for worker_id in worker_ids]
        end = _together(worker_ids, await asyncio.gather(*asked), self._directory)
        self._journal.end(name, run_id)
        return end

    async def _bring(self, run: ScheduleRun, workers: list[WorkerTasks], args: tuple[Any, ...]) -> RunEnd:
        run_id, ids = self.new_id(), [worker.worker_id for worker in workers]
        await self._journal.begin(run.name, run_id, ids)
        order = {"name": run.name, "run_id": run_id, "due": run.due, "args": args}
        ends = await asyncio.gather(*(self._ask(worker_id, "egg-schedule-run", order) for worker_id in ids))
        self._journal.end(run.name, run_id)
        return _together(ids, ends, self._directory)

    async def _ask(self, worker_id: int, action: str, data: Any) -> RunEnd:
        """What a worker answers, as an end; it takes as long as the run does."""
        try:
            answer = await self._messenger.request(action, data, worker_id)
        except ReceiverDied as error:
            return RunEnd(LOST, f"its worker died: {error}")
        except MessengerError as error:
            return RunEnd(FAILED, str(error))
        return RunEnd(LOST, "it never began") if answer is None else convert(answer, RunEnd)

    async def _workers(self, name: str, refused: set[int]) -> list[WorkerTasks]:
        """The workers that can run it now; waits a while where there is none."""
        deadline = asyncio.get_running_loop().time() + WAIT_FOR_WORKER
        while True:
            self._changed.clear()
            if found := [each for each in self._directory.candidates(name) if each.worker_id not in refused]:
                return found
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                return []


def _together(worker_ids: list[int], ends: list[RunEnd], directory: ScheduleDirectory) -> RunEnd:
    """The end of a run in several workers: well only if all are; one that refused has closed, and does not count."""
    counted = [(worker, end) for worker, end in zip(worker_ids, ends, strict=True) if end.outcome != REFUSED]
    if len(ends) == 1 or not counted:
        return ends[0]
    bad = [(worker, end) for worker, end in counted if end.outcome != OK]
    if not bad:
        return RunEnd(OK)
    return RunEnd(bad[0][1].outcome, "; ".join(f"{directory.place_of(worker)}: {end.error}" for worker, end in bad))
