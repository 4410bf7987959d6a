"""Reports and requests: what children, parent and command line tell and ask the master. Runs in the master.

It makes events for the inbox of what comes over the channels, and tells all who gave an order how it ended. Runs in
the master.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from eggcluster.errors import FrameError
from eggcluster.kernel.source_stamps import Stamp
from eggcluster.master.agent_records import AgentJournal
from eggcluster.master.events import BootFailed, Inbox, Progress, ReloadRequested, Started
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.model.lives.worker import AgentWorker, Worker
from eggcluster.model.messages.message import FrameKind
from eggcluster.model.messages.role import AGENT, PARENT


class BackgroundReport(msgspec.Struct):
    """One background task of a child, as it tells of it."""

    name: str
    state: str
    restarts: int
    last_error: str | None


class MasterRequests:
    """Anybody may ask for the status; only the parent may order a reload. `status` gives the cluster's."""

    def __init__(self, inbox: Inbox, status: Callable[[], dict[str, Any]]) -> None:
        self._inbox = inbox
        self._status = status
        self.agent_memory = AgentJournal()
        self.reloads = 0  # so many have been asked for
        self._closers: list[Progress] = []  # who asked for the end
        self._reloaders: list[Progress] = []  # who asked for new workers: a close ends it for them as a failure
        self._answering: set[asyncio.Task[None]] = set()

    # -- over the channels -----------------------------------------------------------------------------

    def report(self, worker: Worker, action: str, details: dict[str, Any]) -> None:
        """A child reported about itself; FrameError for what is no report."""
        if action == ("agent-start" if isinstance(worker, AgentWorker) else "app-start"):
            self._inbox.put(Started(worker, _stamps(details.get("sources"))))
        elif action == "boot-failed":
            text, bad_option = str(details.get("report", "")), details.get("bad_option") is True
            self._inbox.put(BootFailed(worker, text, bad_option))
        elif action == "remember" and isinstance(worker, AgentWorker):
            self.agent_memory.keep(details)
        elif action == "background":
            worker.background = background_states(details, worker.background)
        else:
            raise FrameError(f'no report is called "{action}"')

    def request(self, switchboard: Switchboard, link: Link, request_id: int, action: str, data: Any) -> None:
        """Somebody asked the master itself."""
        if action == "status":
            switchboard.answer(link, request_id, FrameKind.REPLY, self._status())
        elif link.address == AGENT and action == "leave" and link.worker is not None:
            switchboard.keep_for_successor(link.worker)
            switchboard.answer(link, request_id, FrameKind.REPLY, None)
        elif link.address is PARENT and action == "reload":
            progress = Progress()
            self._inbox.put(ReloadRequested(data if isinstance(data, bool) else None, progress))
            task = asyncio.get_running_loop().create_task(_answer(switchboard, link, request_id, progress))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        else:
            text = f'the master does not answer "{action}"'
            switchboard.answer(link, request_id, FrameKind.FAILURE, ["NoHandler", text, ""])

    # -- those who gave an order -----------------------------------------------------------------------

    def follow_close(self, progress: Progress | None) -> None:
        """`progress` wants to hear of the end."""
        if progress is not None:
            self._closers.append(progress)

    def follow_reload(self, progress: Progress | None) -> None:
        """A reload begins; `progress` wants to hear of it."""
        self.reloads += 1
        if progress is not None:
            self._reloaders.append(progress)

    def say(self, line: str) -> None:
        """A line for those who wait for a reload."""
        for progress in self._reloaders:
            progress.say(line)

    def end_reload(self, failure: str | None) -> None:
        """The reload is over for all who asked for it."""
        _end(self._reloaders, failure)

    async def end_close(self, limit: float) -> None:
        """The cluster has closed; wait until the parent's orders are answered, for `limit` seconds at most."""
        _end(self._closers, None)
        if self._answering:
            await asyncio.wait(self._answering, timeout=limit)


def _stamps(told: Any) -> tuple[Stamp, ...]:
    """The files that a worker told; nothing else of what it may have sent."""
    try:
        return msgspec.convert(told, tuple[Stamp, ...])
    except msgspec.ValidationError:
        return ()


def _end(followers: list[Progress], failure: str | None) -> None:
    for progress in followers:
        progress.end(failure)
    followers.clear()


async def _answer(switchboard: Switchboard, link: Link, request_id: int, progress: Progress) -> None:
    lines = [line async for line in progress.lines()]
    if progress.failure is not None:
        switchboard.answer(link, request_id, FrameKind.FAILURE, ["ControlError", progress.failure, ""])
    else:
        switchboard.answer(link, request_id, FrameKind.REPLY, lines)


def background_states(details: dict[str, Any], known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A child's report of its background tasks, for the status; what was known, where it has another shape: it is no
    reason to end a worker that serves."""
    try:
        tasks = msgspec.convert(details.get("tasks"), list[BackgroundReport])
    except msgspec.ValidationError:
        return known
    return [msgspec.structs.asdict(task) for task in tasks]
