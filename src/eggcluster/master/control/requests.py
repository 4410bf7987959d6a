"""Reports and requests that reach the master over its channels, and the answers. Runs in the master.

Reports of a start or a failed boot become events in the inbox, and so do requests to reload. Each requester of a stop
or reload learns how it ended.
"""

import weakref
from collections.abc import Callable
from typing import Any

import msgspec

from eggcluster.errors import FrameError
from eggcluster.kernel.file_stamps import Stamp
from eggcluster.kernel.tasks import TaskSet
from eggcluster.master.agent_records import AgentJournal
from eggcluster.master.events import BootFailed, Inbox, Progress, ReloadRequested, Started
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.model.lives.worker import AgentWorker, Worker
from eggcluster.model.messages.message import FrameKind
from eggcluster.model.messages.role import AGENT, PARENT
from eggcluster.wording import MAX_ERROR, printable


class BackgroundReport(msgspec.Struct):
    """One background task of a worker, as the worker reports it."""

    name: str
    state: str
    restarts: int
    last_error: str | None


class MasterRequests:
    """Answers requests: any worker and the parent may ask for the status; only the parent may request a reload; only
    an agent that closes may request that its messages are kept for the next one. Workers say that they share, and ask
    which of those live.

    It writes two fields of a `Worker`: `background`, for the status alone, and `shares`. `survivors` returns the ids of
    the living app workers that share. `was_shared` says whether an agent has written into the shared dictionary, and
    `apps_share` whether an app worker has asked for a copy of it. Each function in `source_takers` gets the source
    files that a worker reports.
    """

    def __init__(self, inbox: Inbox, status: Callable[[], dict[str, Any]], survivors: Callable[[], list[int]]) -> None:
        self._inbox = inbox
        self._status = status
        self._survivors = survivors
        self.was_shared = False
        self.apps_share = False
        self.source_takers: list[Callable[[Worker, tuple[Stamp, ...]], None]] = []
        self.journal = AgentJournal()
        self._reloads = 0  # how many were requested
        self._renewals = 0  # those after which what is installed is loaded anew
        self._close_progress: list[Progress] = []  # one for each request to close
        self._reload_progress: list[Progress] = []  # one for each request to reload
        self._answers = TaskSet()
        self._started: weakref.WeakSet[Worker] = weakref.WeakSet()
        self._failed: weakref.WeakSet[Worker] = weakref.WeakSet()

    # -- over the channels -----------------------------------------------------------------------------

    def report(self, worker: Worker, action: str, details: dict[str, Any]) -> None:
        """Take a worker's report about itself; FrameError if it is not a valid one.

        That it has started, or cannot boot, counts once. A repetition is ignored, so that a flood is cheap.
        """
        if action == ("agent-start" if isinstance(worker, AgentWorker) else "app-start"):
            if worker not in self._started:
                self._started.add(worker)
                self._take_sources(worker, details)
                self._inbox.put(Started(worker))
        elif action == "boot-failed":
            if worker not in self._failed:
                self._failed.add(worker)
                self._take_sources(worker, details)
                text, bad_option = printable(str(details.get("report", ""))), details.get("bad_option") is True
                self._inbox.put(BootFailed(worker, text, bad_option))
        elif action == "journal" and isinstance(worker, AgentWorker):
            self.journal.record(details)
        elif action == "sources":
            self._take_sources(worker, details)
        elif action == "background":
            worker.background = background_states(details, worker.background)
        else:
            raise FrameError(f'unknown report "{printable(action, MAX_ERROR)}"')

    def request(self, switchboard: Switchboard, link: Link, request_id: int, action: str, data: Any) -> None:
        """Answer a request to the master itself, at once or when it is carried out."""
        if action == "status":
            switchboard.answer(link, request_id, FrameKind.REPLY, self._status())
        elif action == "egg-shares" and link.worker is not None:
            self._note_sharing(link.worker)
            switchboard.answer(link, request_id, FrameKind.REPLY, None)
        elif action == "egg-survivors":
            switchboard.answer(link, request_id, FrameKind.REPLY, self._survivors())
        elif link.address == AGENT and action == "egg-leave" and link.worker is not None:
            switchboard.keep_for_successor(link.worker)
            switchboard.answer(link, request_id, FrameKind.REPLY, None)
        elif link.address is PARENT and action == "reload":
            progress = Progress()
            self._inbox.put(ReloadRequested(data if isinstance(data, bool) else None, progress))
            self._answers.start(_answer(switchboard, link, request_id, progress))
        else:
            text = f'the master does not answer "{printable(action, MAX_ERROR)}"'
            switchboard.answer(link, request_id, FrameKind.FAILURE, ["NoHandler", text, ""])

    def _take_sources(self, worker: Worker, details: dict[str, Any]) -> None:
        for take in self.source_takers if (sources := _stamps(details.get("sources"))) else ():
            take(worker, sources)

    def legacy(self) -> dict[str, Any]:
        """Return what the agents so far have left for the next one, as fields of its WorkerSpec."""
        left = {"journal": self.journal.entries, "survivors": self._survivors(), "was_shared": self.was_shared}
        return {**left, **self._reload_counts()}

    def app_legacy(self) -> dict[str, Any]:
        """Return the same of the app workers for the next ones. These start with a copy of the shared dictionary if one
        has ever asked for it: in a reload they would have none yet when the agent is replaced, and all were lost."""
        return {"shares": self.apps_share, **self._reload_counts()}

    def _note_sharing(self, worker: Worker) -> None:
        """Note that an app worker asks for a copy of the shared dictionary, or that the agent has written into it."""
        worker.shares = True
        self.was_shared = self.was_shared or isinstance(worker, AgentWorker)
        self.apps_share = self.apps_share or not isinstance(worker, AgentWorker)

    # -- progress -----------------------------------------------------------------------

    def track_close(self, progress: Progress | None) -> None:
        """End `progress` when the cluster has closed."""
        if progress is not None:
            self._close_progress = [*_wanted(self._close_progress), progress]

    def track_reload(self, request: ReloadRequested) -> None:
        """Count a requested reload; tell its progress of the steps and the end."""
        self._reloads += 1
        self._renewals += not request.own_files
        if request.progress is not None:
            self._reload_progress = [*_wanted(self._reload_progress), request.progress]

    def _reload_counts(self) -> dict[str, int]:
        """Return how many reloads there were, as fields of a WorkerSpec."""
        return {"reloads": self._reloads, "renewals": self._renewals}

    def say(self, line: str) -> None:
        """Add a line to the progress of every reload."""
        for progress in self._reload_progress:
            progress.say(line)

    def end_reload(self, failure: str | None) -> None:
        """End the progress of every reload."""
        _end(self._reload_progress, failure)

    async def end_close(self, limit: float) -> None:
        """End the requests to close, because the cluster has closed. Wait until the parent's requests are answered, for
        `limit` seconds at most."""
        _end(self._close_progress, None)
        await self._answers.wait(limit)


def _stamps(sources: Any) -> tuple[Stamp, ...]:
    """Return the files that a worker reported, or nothing if they have another shape."""
    try:
        return msgspec.convert(sources, tuple[Stamp, ...])
    except msgspec.ValidationError:
        return ()


def _wanted(waiting: list[Progress]) -> list[Progress]:
    return [progress for progress in waiting if not progress.abandoned]


def _end(waiting: list[Progress], failure: str | None) -> None:
    for progress in waiting:
        progress.end(failure)
    waiting.clear()


async def _answer(switchboard: Switchboard, link: Link, request_id: int, progress: Progress) -> None:
    lines = [line async for line in progress.lines()]
    if progress.failure is not None:
        switchboard.answer(link, request_id, FrameKind.FAILURE, ["ControlError", progress.failure, ""])
    else:
        switchboard.answer(link, request_id, FrameKind.REPLY, lines)


def background_states(details: dict[str, Any], known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a worker's report of its background tasks, for the status.

    A report of another shape changes nothing: it is no reason to end a worker that serves.
    """
    try:
        tasks = msgspec.convert(details.get("tasks"), list[BackgroundReport])
    except msgspec.ValidationError:
        return known
    return [msgspec.structs.asdict(task) for task in tasks]
