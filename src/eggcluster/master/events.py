"""The master's inbox, and the events in it: facts, in the past tense. Runs in the master."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from eggcluster.errors import FrameError
from eggcluster.kernel.source_stamps import Stamp
from eggcluster.model.lives.worker import ExitReport, Worker


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


@dataclass(frozen=True)
class Started:
    """`agent-start` or `app-start` came from it; `sources` are the files that its code was loaded from."""

    worker: Worker
    sources: tuple[Stamp, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class BootFailed:
    """It told why it cannot boot; its exit follows."""

    worker: Worker
    report: str
    bad_option: bool


@dataclass(frozen=True)
class Exited:
    """It and all that it started are known dead."""

    worker: Worker
    exit: ExitReport


@dataclass(frozen=True)
class ChannelBroke:
    """It sent what is no frame, or closed its channel and lives on (None)."""

    worker: Worker
    error: FrameError | None


@dataclass(frozen=True)
class SignalReceived:
    """The master got a signal."""

    number: int


@dataclass(frozen=True)
class CloseRequested:
    """Somebody with the right to asked for the end; `why` is for the log."""

    why: str
    progress: Progress | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ReloadRequested:
    """Somebody with the right to asked for new workers, and for a new agent, too; None: if its code has changed."""

    agent: bool | None = None
    progress: Progress | None = field(default=None, repr=False)


Event = Started | BootFailed | Exited | ChannelBroke | SignalReceived | CloseRequested | ReloadRequested


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
