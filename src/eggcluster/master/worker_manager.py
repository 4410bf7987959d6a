"""The worker manager: our grip on each living incarnation. It forks, watches, stops and kills. Runs in the master."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine, Sequence
from typing import Any

from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.process_adoption import reap_adopted
from eggcluster.kernel.process_tree import children_but, kill_until_gone
from eggcluster.master.events import ChannelBroke, Exited, Inbox
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.model.lives.worker import ExitReport, Heartbeat, Worker
from eggcluster.modes.starters import starter_of
from eggcluster.modes.worker_handle import StopOutcome, WorkerHandle
from eggcluster.options import ResolvedOptions

LAST_WORDS = 1.0  # seconds that a dead worker's channel may take to deliver what it sent before it died
CHANNEL_LOST_GRACE = 5.0  # seconds that a worker may live on without its channel: it is about to exit, or astray

_logger = logging.getLogger("eggcluster.master")


class WorkerManager:
    """Holds a handle for each incarnation from its fork until its end, which it reports as an event."""

    def __init__(self, inbox: Inbox, switchboard: Switchboard, options: ResolvedOptions) -> None:
        self._inbox = inbox
        self._switchboard = switchboard
        self._max_message_bytes = options.max_message_bytes
        self._start = starter_of(options.start_mode)
        self._shares_process = options.start_mode != "process"
        self._handles: dict[Worker, WorkerHandle] = {}
        self._abandoned: dict[Worker, WorkerHandle] = {}
        self._lost: dict[Worker, asyncio.TimerHandle] = {}  # without its channel: how long it may live on
        self._tasks: set[asyncio.Task[None]] = set()

    def fork(self, worker: Worker, order: WorkerSpec, fds: Sequence[int]) -> None:
        """Start an incarnation that inherits `fds`. Where the system refuses, that is its death."""
        try:
            handle = self._start(order, fds)
        except OSError as error:
            worker.failure = f"it could not be started: {error}"
            self._inbox.put(Exited(worker, ExitReport()))
            return
        worker.worker_id = handle.worker_id
        self._handles[worker] = handle
        _logger.debug("%s forked", worker)
        link = self._switchboard.add_link(worker)
        self._run(self._watch(worker, handle, link))

    def stop(self, worker: Worker, grace: float) -> None:
        """Ask it to close; after `grace` seconds its process tree gets SIGKILL, a thread is abandoned. Returns at
        once."""
        handle = self._handles.get(worker)
        if handle is not None:
            what = handle.last_resort
            _logger.info("send kill SIGTERM to %s, will %s it after %dms", worker, what, grace * 1000)
            self._run(self._stop(worker, handle, grace))

    def kill(self, worker: Worker) -> None:
        """SIGKILL for its process tree. Returns at once."""
        handle = self._handles.get(worker)
        if handle is not None:
            _logger.warning("%s %s", "abandon" if self._shares_process else "send kill SIGKILL to", worker)
            handle.kill()

    def abort(self, worker: Worker) -> None:
        """Its loop stands still: let it write its stacks, then SIGKILL for its process tree. Returns at once."""
        handle = self._handles.get(worker)
        if handle is not None:
            _logger.warning("send kill SIGABRT to %s", worker)
            self._run(handle.abort())

    def look(self, *, memory: bool) -> dict[Worker, Heartbeat]:
        """How all of them are; where `memory` is of interest it is noted at the workers themselves."""
        if memory:
            for worker, handle in self._handles.items():
                worker.rss = handle.resident_bytes()
        return {worker: handle.record.read() for worker, handle in self._handles.items()}

    def forget(self, worker: Worker) -> tuple[str, int | None]:
        """It is known dead; gives its last words, and how many messages it has read."""
        handle = self._handles.pop(worker, None)
        if handle is None:
            return "", None
        if (timer := self._lost.pop(worker, None)) is not None:
            timer.cancel()
        words, read = handle.record.final_message(), handle.record.messages_read()
        handle.record.close()
        if handle.lives_on:
            self._abandoned[worker] = handle
        return words, read

    def abandoned(self) -> list[Worker]:
        """Those that nobody waits for any more, and that still run."""
        self._abandoned = {worker: handle for worker, handle in self._abandoned.items() if handle.lives_on}
        return list(self._abandoned)

    def reap(self) -> None:
        """SIGCHLD: an adopted orphan may have ended; our own children have somebody who waits for them. Where workers
        share this process none is adopted, and the children are theirs."""
        if not self._shares_process:
            reap_adopted({handle.worker_id for handle in self._handles.values()})

    def end_orphans(self, preexisting_children: frozenset[tuple[int, bytes]]) -> None:
        """SIGKILL for what the master adopted: children of workers that left both session and environment behind.

        Only at the very end, and only in a process of the master's own. `preexisting_children` were there before:
        a shell that became the master by `exec` may have started a `tee` for its log.
        """
        kill_until_gone(lambda: children_but(preexisting_children, os.getpid()), limit=1.0)

    def abandon(self) -> None:
        """The master ends: wait for nobody any more, such as a process that the kernel does not let go."""
        for task in self._tasks:
            task.cancel()
        for timer in self._lost.values():
            timer.cancel()
        for handle in self._handles.values():
            handle.record.close()

    def channel_lost(self, worker: Worker) -> None:
        """Its channel was closed. At a normal exit that comes a moment before the end: no event yet."""
        if worker in self._handles:
            loop = asyncio.get_running_loop()
            self._lost[worker] = loop.call_later(CHANNEL_LOST_GRACE, self._check_lost, worker)

    def _check_lost(self, worker: Worker) -> None:
        self._lost.pop(worker, None)
        if worker in self._handles:
            self._inbox.put(ChannelBroke(worker, None))

    async def _watch(self, worker: Worker, handle: WorkerHandle, link: Link) -> None:
        """Open its channel, and wait for its end."""
        try:
            await self._switchboard.open_link(link, handle.channel, self._max_message_bytes)
            exit = await handle.wait_exit()
        except Exception:
            _logger.exception("BUG: waiting for %s failed; it is killed and counts as dead", worker)
            handle.kill()
            exit = ExitReport()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await link.gone.wait()
        self._inbox.put(Exited(worker, exit))

    async def _stop(self, worker: Worker, handle: WorkerHandle, grace: float) -> None:
        outcome = await handle.stop(grace=grace)
        if outcome is StopOutcome.KILLED:
            _logger.warning("%s did not close in order, it was killed", worker)
        elif outcome is StopOutcome.ABANDONED:
            _logger.warning("%s did not close in order, it is abandoned: a thread cannot be killed", worker)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """A task that is not lost to the garbage collector."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
