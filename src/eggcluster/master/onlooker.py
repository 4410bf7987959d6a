"""One who looks on at what happens, over the control socket. Runs in the master, while somebody does."""

import asyncio
from typing import Any

MAX_WAITING = 10_000  # descriptions; who reads more slowly than things happen misses some, and is told how many


class Onlooker:
    """A bounded queue of descriptions. What does not fit is counted only: nobody who looks on slows anything down."""

    def __init__(self) -> None:
        self._seen: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING)
        self._missed = 0

    def show(self, description: dict[str, Any]) -> None:
        """Something happened."""
        try:
            self._seen.put_nowait(description)
        except asyncio.QueueFull:
            self._missed += 1

    async def next(self) -> dict[str, Any]:
        """The next description; `missed` in it says how many passed unseen before it."""
        description = await self._seen.get()
        missed, self._missed = self._missed, 0
        return {**description, "missed": missed} if missed else description
