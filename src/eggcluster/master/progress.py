"""What a long command tells those who asked for it while it is under way. Runs in the master."""

import asyncio
from collections.abc import AsyncIterator


class Progress:
    """Lines for one asker; ended once, with a failure or without. Read it with `async for`."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self.failure: str | None = None

    def say(self, line: str) -> None:
        self._lines.put_nowait(line)

    def end(self, failure: str | None = None) -> None:
        """No more lines; `failure` is why the command failed."""
        self.failure = failure
        self._lines.put_nowait(None)

    async def lines(self) -> AsyncIterator[str]:
        """The lines as they come, until the end."""
        while (line := await self._lines.get()) is not None:
            yield line
