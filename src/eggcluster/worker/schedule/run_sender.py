"""Sends runs to app workers and collects their outcomes. Runs in the agent."""

import asyncio
import logging
import random
from typing import Any

from eggcluster.errors import MessengerError, ReceiverDied
from eggcluster.ipc.internal_messenger import InternalMessenger
from eggcluster.model.schedule.schedule_directory import ScheduleDirectory, WorkerTasks
from eggcluster.model.schedule.schedule_run import FAILED, LOST, NO_WORKER, OK, REFUSED, STOPPED, RunEnd, ScheduleRun
from eggcluster.packing import convert
from eggcluster.worker.schedule.journal import Journal

WORKER_TIMEOUT = 10.0  # seconds that a run waits for a listening worker; a replacement usually listens by then


class RunSender:
    """Sends the runs of one agent. Its `generation` keeps the run ids of different agents apart."""

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
        """Return an id that no run of this cluster has had."""
        self._count += 1
        return f"{self._generation}-{self._count}"

    def workers_changed(self) -> None:
        """Wake the runs that wait for a worker, because the directory has changed."""
        self._changed.set()

    async def send_one(self, run: ScheduleRun, args: tuple[Any, ...], retry: int) -> RunEnd:
        """Carry `run` out in one listening worker, picked at random. If the worker dies or closes meanwhile, try
        another one, at most `retry` times. A worker that refuses has not begun the run, so a refusal does not count."""
        refused: set[int] = set()
        while True:
            workers = await self._runnable_by(run.name, refused)
            if not workers:
                return RunEnd(NO_WORKER, "no app worker was there to run it")
            worker = random.choice(workers)
            run.where = self._directory.name_of(worker.worker_id)
            end = await self._send(run, [worker], args)
            if end.outcome == REFUSED:
                refused.add(worker.worker_id)
            elif end.outcome in (LOST, STOPPED) and retry > 0:
                retry -= 1
                refused.add(worker.worker_id)
                self._logger.warning("schedule %s: %s, trying another worker", run.name, end.error)
            else:
                return end

    async def send_all(self, run: ScheduleRun, args: tuple[Any, ...]) -> RunEnd:
        """Carry `run` out in every listening worker that has the task. Return OK only if all runs succeeded."""
        workers = await self._runnable_by(run.name, set())
        if not workers:
            return RunEnd(NO_WORKER, "no app worker was there to run it")
        run.where = f"{len(workers)} workers" if len(workers) > 1 else self._directory.name_of(workers[0].worker_id)
        return await self._send(run, workers, args)

    async def join(self, name: str, run_id: str, worker_ids: list[int]) -> RunEnd:
        """Wait for the end of a run that an earlier agent requested."""
        asked = [self._ask(worker_id, "egg-schedule-join", run_id) for worker_id in worker_ids]
        end = _combined(worker_ids, await asyncio.gather(*asked), self._directory)
        self._journal.end(name, run_id)
        return end

    async def _send(self, run: ScheduleRun, workers: list[WorkerTasks], args: tuple[Any, ...]) -> RunEnd:
        run_id, ids = self.new_id(), [worker.worker_id for worker in workers]
        await self._journal.begin(run.name, run_id, ids)
        request = {"name": run.name, "run_id": run_id, "due": run.due, "args": args}
        ends = await asyncio.gather(*(self._ask(worker_id, "egg-schedule-run", request) for worker_id in ids))
        self._journal.end(run.name, run_id)
        return _combined(ids, ends, self._directory)

    async def _ask(self, worker_id: int, action: str, data: Any) -> RunEnd:
        """Ask one worker and return the outcome. The answer comes when the run has ended."""
        try:
            answer = await self._messenger.request(action, data, worker_id)
        except ReceiverDied as error:
            return RunEnd(LOST, f"its worker died: {error}")
        except MessengerError as error:
            return RunEnd(FAILED, str(error))
        return RunEnd(LOST, "it never began") if answer is None else convert(answer, RunEnd)

    async def _runnable_by(self, name: str, refused: set[int]) -> list[WorkerTasks]:
        """Return the workers that can run it now; if there is none, wait for one up to WORKER_TIMEOUT."""
        deadline = asyncio.get_running_loop().time() + WORKER_TIMEOUT
        while True:
            self._changed.clear()
            if found := [each for each in self._directory.candidates(name) if each.worker_id not in refused]:
                return found
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                return []


def _combined(worker_ids: list[int], ends: list[RunEnd], directory: ScheduleDirectory) -> RunEnd:
    """Combine the outcomes of several workers: OK if all are. A worker that refused has closed and does not count."""
    counted = [(worker, end) for worker, end in zip(worker_ids, ends, strict=True) if end.outcome != REFUSED]
    if len(ends) == 1 or not counted:
        return ends[0]
    bad = [(worker, end) for worker, end in counted if end.outcome != OK]
    if not bad:
        return RunEnd(OK)
    return RunEnd(bad[0][1].outcome, "; ".join(f"{directory.name_of(worker)}: {end.error}" for worker, end in bad))
