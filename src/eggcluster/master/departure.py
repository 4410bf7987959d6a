"""The time between SIGTERM and the close, in which balancers look away. Runs in the master."""

import asyncio

from eggcluster.master.events import CloseRequested, Inbox


class Departure:
    """With `delay`, the cluster serves on for so many seconds after the first SIGTERM, while `/ready` says no."""

    def __init__(self, inbox: Inbox, delay: float) -> None:
        self._inbox = inbox
        self._delay = delay
        self._timer: asyncio.TimerHandle | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the cluster is about to close."""
        return self._timer is not None

    def begin(self) -> bool:
        """Request the close after the delay; return False if it has to begin now: there is no delay, or it has begun
        already."""
        if not self._delay or self.has_begun:
            return False
        why = CloseRequested("the shutdown delay is over")
        self._timer = asyncio.get_running_loop().call_later(self._delay, self._inbox.put, why)
        return True

    def end(self) -> None:
        """Request nothing any more: the cluster closes."""
        if self._timer is not None:
            self._timer.cancel()
