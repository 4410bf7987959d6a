"""What the master keeps of the agent: its journal for its successor, and the files of its code. Runs in the master."""

import asyncio
import contextlib
import logging
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.kernel.source_stamps import Stamp, any_changed
from eggcluster.kernel.threads import start_daemon
from eggcluster.master.events import Inbox, Progress, ReloadRequested

# Keys and values together. It travels in the boot order, which has to fit a socket's buffer; a task takes some 60.
MAX_BYTES = 64 * 1024

_logger = logging.getLogger("eggcluster.master")


class AgentJournal:
    """Values by key; a new value takes the place of the old one. Bounded: what does not fit is not kept."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self._bytes = 0
        self._complained = False

    def keep(self, details: dict[str, Any]) -> None:
        """Keep what the agent reports; FrameError for another shape."""
        key, value = details.get("key"), details.get("value")
        if not isinstance(key, str) or not isinstance(value, bytes):
            raise FrameError("a report to remember has a key (str) and a value (bytes)")
        size = self._bytes + self._size(key, value) - self._size(key, self.kept.get(key))
        if size <= MAX_BYTES:
            self.kept[key], self._bytes = value, size
        elif not self._complained:
            self._complained = True
            _logger.warning("the agent wants more than %d bytes to be remembered, some are not kept", MAX_BYTES)

    @staticmethod
    def _size(key: str, value: bytes | None) -> int:
        return 0 if value is None else len(key.encode(errors="replace")) + len(value)


PATIENCE = 5.0  # seconds for looking at some hundred files


class AgentSources:
    """Remembers what the last agent told of its sources; compares in a thread, for a disk may take its time, or never
    answer: nobody waits for that one, neither the reload nor the end of the process."""

    def __init__(self, inbox: Inbox) -> None:
        self.stamps: tuple[Stamp, ...] = ()
        self._inbox = inbox
        self._comparing: set[asyncio.Task[None]] = set()

    def compare(self, progress: Progress | None) -> None:
        """Look whether any has changed, and request the reload again with the answer. Returns at once."""
        task = asyncio.get_running_loop().create_task(self._compare(progress))
        self._comparing.add(task)
        task.add_done_callback(self._comparing.discard)

    async def _compare(self, progress: Progress | None) -> None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()

        def settle(changed: bool) -> None:
            if not answer.done():
                answer.set_result(changed)

        def look() -> None:
            changed = any_changed(self.stamps)
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(settle, changed)

        try:
            start_daemon(look, name="egg-sources")
        except RuntimeError:  # the system has no thread for us (pids.max): a slow disk is the smaller evil then
            look()
        try:
            async with asyncio.timeout(PATIENCE):
                changed = await answer
        except TimeoutError:
            text = "the agent is not reloaded: its files could not be looked at within %gs; --agent reloads it anyway"
            _logger.warning(text, PATIENCE)
            changed = False
        self._inbox.put(ReloadRequested(changed, progress))
