"""The master's inbox: everything that happens is an event in it, taken out one at a time."""

import asyncio

from eggcluster.master.event import Event


class Inbox:
    """A queue with a deadline. Only the loop's own thread may put."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def put(self, event: Event) -> None:
        self._events.put_nowait(event)

    async def next(self, deadline: float | None) -> Event | None:
        """The next event, or None once the loop's clock has reached `deadline` (None: no limit)."""
        if not self._events.empty():
            return self._events.get_nowait()
        try:
            async with asyncio.timeout_at(deadline):
                return await self._events.get()
        except TimeoutError:
            return None
