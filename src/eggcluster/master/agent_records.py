"""What the master keeps about the agent: its journal for its successor, and its source files. Runs in the master."""

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.kernel.file_stamps import Stamp, stamp_of
from eggcluster.kernel.tasks import TaskSet
from eggcluster.kernel.threads import start_daemon
from eggcluster.master.events import Inbox, ReloadRequested
from eggcluster.model.lives.worker import AgentWorker, Worker

# Bytes of keys and values together. The journal travels in the WorkerSpec, which has to fit into a socket's buffer; a
# scheduled task takes some 60 bytes.
MAX_JOURNAL_BYTES = 64 * 1024

_logger = logging.getLogger("eggcluster.master")


class AgentJournal:
    """Keeps what the agent leaves for its successor: values by key, a new value replacing the old one.

    It is bounded. A value that does not fit is not kept, and the log says so once.
    """

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self._bytes = 0
        self._complained = False

    def record(self, details: dict[str, Any]) -> None:
        """Keep the entry that the agent reports; FrameError for another shape."""
        key, value = details.get("key"), details.get("value")
        if not isinstance(key, str) or not isinstance(value, bytes):
            raise FrameError("a journal entry has a key (str) and a value (bytes)")
        size = self._bytes + self._size(key, value) - self._size(key, self.entries.get(key))
        if size <= MAX_JOURNAL_BYTES:
            self.entries[key], self._bytes = value, size
        elif not self._complained:
            self._complained = True
            _logger.warning("the agent's journal exceeds %d bytes, some entries are not kept", MAX_JOURNAL_BYTES)

    @staticmethod
    def _size(key: str, value: bytes | None) -> int:
        return 0 if value is None else len(key.encode(errors="replace")) + len(value)


COMPARE_TIMEOUT = 5.0  # seconds for stat(2) of some hundred files; a network file system may need longer, or hang


class AgentSources:
    """Holds the source files that the last agent has reported, and finds out whether any has changed, or whether a link
    on the way to its directories leads elsewhere now: then the agent is still in the old release.

    It compares in a daemon thread, because a disk may be slow or never answer. Neither the reload nor the end of the
    process waits for that thread. There is one at a time: a reload that is requested meanwhile waits for the next one.
    """

    def __init__(self, inbox: Inbox, directories: Sequence[str]) -> None:
        self.stamps: tuple[Stamp, ...] = ()
        self._reporter: Worker | None = None
        self._directories = directories
        self._places: list[str] = []
        self._inbox = inbox
        self._comparisons = TaskSet()
        self._comparing = False
        self._waiting: list[ReloadRequested] = []  # those that wait for a comparison

    def found(self, worker: Worker, sources: Sequence[Stamp]) -> None:
        """Take the files that a worker has reported: an agent's first report takes the place of its predecessor's."""
        if isinstance(worker, AgentWorker):
            self.stamps = (*(self.stamps if worker is self._reporter else ()), *sources)
            self._reporter = worker

    def starting(self) -> None:
        """Note where the agent's directories lead, because it starts now."""
        self._places = self._lead_to()

    def _lead_to(self) -> list[str]:
        return [os.path.realpath(directory) for directory in self._directories]

    def compare(self, request: ReloadRequested) -> None:
        """Find out whether any file has changed, and request the reload again with the answer. Return at once."""
        if request.progress is None and request in self._waiting:
            return  # the one that waits already is as good
        self._waiting.append(request)
        if not self._comparing:
            self._comparing = True
            self._comparisons.start(self._compare_all())

    async def _compare_all(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            changed = await self._compare()
            for request in waiting:
                self._inbox.put(dataclasses.replace(request, agent=changed))
        self._comparing = False

    async def _compare(self) -> bool:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()

        def settle(changed: bool) -> None:
            if not answer.done():
                answer.set_result(changed)

        def look() -> None:
            changed = any_changed(self.stamps) or self._lead_to() != self._places
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(settle, changed)

        try:
            start_daemon(look, name="egg-sources")
        except RuntimeError:  # no thread can be started (pids.max): waiting for a slow disk is the smaller evil
            look()
        try:
            async with asyncio.timeout(COMPARE_TIMEOUT):
                return await answer
        except TimeoutError:
            text = "the agent is not reloaded: its files could not be checked within %gs; --agent reloads it anyway"
            _logger.warning(text, COMPARE_TIMEOUT)
            return False


def any_changed(stamps: Iterable[Stamp]) -> bool:
    """Return whether one of the files has another modification time or size than its stamp, or is gone.

    Call it in a thread of its own: a disk may be slow.
    """
    return any(stamp_of(stamp[0]) != stamp for stamp in stamps)
