"""Which files the agent's code came from, and whether a reload is the agent's, too. Runs in the master."""

import asyncio

from eggcluster.kernel.source_stamps import Stamp, any_changed
from eggcluster.master.event import ReloadRequested
from eggcluster.master.inbox import Inbox
from eggcluster.master.progress import Progress


class AgentSources:
    """Remembers what the last agent told of its sources; compares in a thread, for a disk may take its time."""

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
        try:
            changed = await asyncio.to_thread(any_changed, self.stamps)
        except RuntimeError:  # the system has no thread for us (pids.max): a slow disk is the smaller evil then
            changed = any_changed(self.stamps)
        self._inbox.put(ReloadRequested(changed, progress))
