"""Which files the agent's code came from, and whether a reload is the agent's, too. Runs in the master."""

import asyncio
import contextlib
import logging

from eggcluster.kernel.daemon_thread import start_daemon
from eggcluster.kernel.source_stamps import Stamp, any_changed
from eggcluster.master.event import ReloadRequested
from eggcluster.master.inbox import Inbox
from eggcluster.master.progress import Progress

PATIENCE = 5.0  # seconds for looking at some hundred files

_logger = logging.getLogger("eggcluster.master")


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
