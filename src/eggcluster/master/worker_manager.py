"""The worker manager: starts, watches, stops and kills workers, whatever the start mode. Runs in the master."""

import asyncio
import contextlib
import errno
import logging
import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from eggcluster import __version__
from eggcluster.errors import FrameError
from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.process_adoption import reap_adopted
from eggcluster.kernel.process_tree import children_but, kill_until_gone
from eggcluster.kernel.tasks import TaskSet
from eggcluster.master.cluster_secret import cluster_secret
from eggcluster.master.events import ChannelBroke, Exited, Forked, Inbox
from eggcluster.master.listening.listeners import Listeners
from eggcluster.master.past_counters import PastCounters
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.model.http_counters import HttpCounts
from eggcluster.model.lives.worker import ExitReport, Heartbeat, Worker
from eggcluster.model.messages.begun import Begun
from eggcluster.model.messages.role import Role
from eggcluster.modes.starters import starter_of
from eggcluster.modes.worker_handle import WorkerHandle
from eggcluster.options import ResolvedOptions
from eggcluster.wording import duration

CHANNEL_END_TIMEOUT = 1.0  # seconds that a dead worker's channel may take to deliver what the worker sent before
CHANNEL_LOST_GRACE = 5.0  # seconds that a worker may live on without its channel, which a normal exit closes first
TEMPLATE_END_TIMEOUT = 1.0  # seconds; a process that was killed ends later only if the kernel keeps it

_logger = logging.getLogger("eggcluster.master")


class WorkerManager:
    """Holds a handle for each worker from its fork until its end, and reports the end to the inbox.

    It writes three fields of a `Worker`: `worker_id` once it is known, or `failure` if the system refuses the fork, and
    `rss`.
    """

    def __init__(
        self, inbox: Inbox, switchboard: Switchboard, options: ResolvedOptions, *, owns_process: bool = False
    ) -> None:
        """`owns_process`: the process is nothing but the master. It adopts orphans, so that workers can be forked from
        a template."""
        self._inbox = inbox
        self._switchboard = switchboard
        self._options = options
        self.cluster_id = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._secret = cluster_secret(options)
        self._starter = starter_of(options.start_mode, self.reap if owns_process else None, preload=options.preload)
        self._shares_process = options.start_mode != "process"
        self._enters_directory = self._shares_process and owns_process
        self._handles: dict[Worker, WorkerHandle] = {}
        self._abandoned: dict[Worker, WorkerHandle] = {}
        self._channel_timers: dict[Worker, asyncio.TimerHandle] = {}  # of workers that have lost their channel
        self._tasks = TaskSet()
        self._past = PastCounters()

    def fork(self, worker: Worker, listeners: Listeners, **details: Any) -> None:
        """Start a worker, which inherits the listeners of its slot; `details` are fields of its WorkerSpec.

        A fork that fails, because the system refuses it as a rule, counts as the worker's death.
        """
        spec = self._spec(worker, listeners, details)
        try:
            self._enter_directory()
            handle = self._starter.start(spec, spec.fds)
        except Exception as error:
            worker.failure = f"it could not be started: {_reason(error)}"
            self._inbox.put(Exited(worker, ExitReport()))
            return
        self._handles[worker] = handle
        link = self._switchboard.add_link(worker, handle.heartbeat_page)
        self._tasks.start(self._watch(worker, handle, link))

    def _enter_directory(self) -> None:
        """Enter the working directory anew, where workers have the master's: a link on its path may lead elsewhere."""
        if self._enters_directory and self._options.working_dir:
            with contextlib.suppress(OSError):  # it was removed: the workers stay where the master is
                os.chdir(self._options.working_dir)

    def _spec(self, worker: Worker, listeners: Listeners, details: dict[str, Any]) -> WorkerSpec:
        return WorkerSpec(
            role=(Role.APP if worker.slot else Role.AGENT).value,
            slot=worker.slot,
            generation=worker.generation,
            cluster_id=self.cluster_id,
            options=self._options,
            version=__version__,
            secret=self._secret,
            forked_at=time.monotonic(),
            start_deadline=worker.start_deadline,
            listeners=listeners.of_slot(worker.slot) if worker.slot else [],
            cluster_port=listeners.cluster_port,
            cluster_inode=listeners.cluster_inode,
            **details,
        )

    def stop(self, worker: Worker, grace: float) -> None:
        """Ask a worker to close; after `grace` seconds SIGKILL its process tree, or abandon its thread. Return at
        once."""
        handle = self._handles.get(worker)
        if handle is not None:
            what = handle.last_resort
            _logger.info("send kill SIGTERM to %s, %s it after %s", worker, what, duration(grace))
            self._switchboard.tell_worker(worker, "egg-close", None)
            self._tasks.start(handle.stop(grace=grace))

    def announce_end(self) -> None:
        """Let all workers know that the cluster closes, before one of them is asked to."""
        for handle in self._handles.values():
            handle.heartbeat_page.write_cluster_closes()

    def kill(self, worker: Worker) -> None:
        """SIGKILL the worker's process tree, or abandon its thread. Return at once."""
        handle = self._handles.get(worker)
        if handle is not None:
            _logger.warning("%s %s", "abandon" if self._shares_process else "send kill SIGKILL to", worker)
            handle.kill()

    def abort(self, worker: Worker) -> None:
        """Let a hung worker write its stacks, then SIGKILL its process tree, or abandon its thread. Return at once."""
        handle = self._handles.get(worker)
        if handle is not None:
            _logger.warning("send kill SIGABRT to %s", worker)
            self._tasks.start(handle.abort())

    def read_heartbeats(self, *, memory: bool) -> dict[Worker, Heartbeat]:
        """Return the workers' last heartbeats. With `memory`, also set their `rss`, by a read in /proc for each."""
        if memory:
            for worker, handle in self._handles.items():
                worker.rss = handle.resident_bytes()
        return {worker: handle.heartbeat_page.read() for worker, handle in self._handles.items()}

    def accepted(self) -> Counter[int]:
        """Return by slot how many connections were accepted since the start, by dead workers, too."""
        return self._past.connections(self._living_pages())

    def http(self) -> dict[int, HttpCounts]:
        """Return by slot what has come of HTTP requests since the start, in dead workers, too."""
        return self._past.http(self._living_pages())

    def _living_pages(self) -> Iterator[tuple[Worker, HeartbeatPage]]:
        return ((worker, handle.heartbeat_page) for worker, handle in self._handles.items())

    def processes(self) -> dict[Worker, int]:
        """Return the process id of each worker that is a process."""
        if self._shares_process:
            return {}
        return {worker: handle.worker_id for worker, handle in self._handles.items() if handle.worker_id}

    def remove(self, worker: Worker) -> tuple[str, Begun]:
        """Remove a worker that is known dead; return its final message, and how far it had come with its messages."""
        handle = self._handles.pop(worker, None)
        if handle is None:
            return "", Begun()
        if (timer := self._channel_timers.pop(worker, None)) is not None:
            timer.cancel()
        final_message, begun = handle.heartbeat_page.final_message(), handle.heartbeat_page.begun()
        self._past.fold(worker, handle.heartbeat_page)
        handle.heartbeat_page.close()
        if handle.lives_on:
            self._abandoned[worker] = handle
        return final_message, begun

    def abandoned(self) -> list[Worker]:
        """Return the abandoned workers that still run."""
        self._abandoned = {worker: handle for worker, handle in self._abandoned.items() if handle.lives_on}
        return list(self._abandoned)

    def reap(self) -> None:
        """Reap adopted orphans, at SIGCHLD. Workers are left to `_watch`, which waits for them. If workers share this
        process, nothing is adopted, and the children belong to the application.

        While a fork is pending, an unknown zombie may be that worker, so none is reaped. The starter calls this again
        when the worker is settled.
        """
        if not self._shares_process and not self._starter.is_pending:
            workers = {handle.worker_id for handle in self._handles.values()}
            reap_adopted(workers | self._starter.own_pids)

    def end_orphans(self, preexisting_children: frozenset[tuple[int, bytes]]) -> None:
        """SIGKILL what the master adopted: children of workers that changed both their session and their environment.

        Call it only at the very end, and only if the process is nothing but the master. `preexisting_children` are
        spared: a shell that became the master by `exec` may have started a `tee` for its log.
        """
        kill_until_gone(lambda: children_but(preexisting_children, os.getpid()), limit=1.0)

    def end_reload(self, failure: str | None) -> None:
        """Note that a reload has ended; `failure` says why it was stopped."""
        self._starter.end_reload(failed=failure is not None)

    async def end_templates(self) -> None:
        """End the processes that workers are forked from."""
        await self._starter.end(TEMPLATE_END_TIMEOUT)

    def cancel(self) -> None:
        """Stop waiting for workers, because the master ends. (The kernel may keep a killed process for longer.)"""
        self._tasks.cancel()
        for timer in self._channel_timers.values():
            timer.cancel()
        for handle in self._handles.values():
            handle.heartbeat_page.close()

    def channel_broke(self, worker: Worker, error: FrameError | None) -> None:
        """Report a worker that broke the protocol, or (None) closed its channel and lives on.

        A normal exit closes the channel, too, so for None the report waits CHANNEL_LOST_GRACE seconds.
        """
        if error is not None:
            self._inbox.put(ChannelBroke(worker, error))
        elif worker in self._handles:
            loop = asyncio.get_running_loop()
            self._channel_timers[worker] = loop.call_later(CHANNEL_LOST_GRACE, self._check_lost, worker)

    def _check_lost(self, worker: Worker) -> None:
        self._channel_timers.pop(worker, None)
        if worker in self._handles:
            self._inbox.put(ChannelBroke(worker, None))

    async def _watch(self, worker: Worker, handle: WorkerHandle, link: Link) -> None:
        """Wait for the worker's start, open its channel, wait for its end and report that."""
        try:
            await handle.wait_start()
        except OSError as error:
            worker.failure = f"it could not be started: {_reason(error)}"
            handle.channel.close()
            self._inbox.put(Exited(worker, ExitReport()))
            return
        if handle.worker_id:  # else it was ended before it started
            worker.worker_id = handle.worker_id
            self._inbox.put(Forked(worker))
        _logger.debug("%s forked", worker)
        try:
            await self._switchboard.open_link(link, handle.channel, self._options.max_message_bytes)
            exit = await handle.wait_exit()
        except Exception:
            _logger.exception("BUG: waiting for %s failed; it is killed and counts as dead", worker)
            handle.kill()
            exit = ExitReport()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHANNEL_END_TIMEOUT):
                await link.gone.wait()
        self._inbox.put(Exited(worker, exit))


def _reason(error: Exception) -> str:
    """Return why a fork failed, and which limit stands behind it."""
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return f"{error}; the limit is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]} (ulimit -n)"
    if isinstance(error, OSError) and error.errno == errno.EAGAIN:
        return f"{error}; the limit of this user's processes is reached (ulimit -u)"
    return str(error)
