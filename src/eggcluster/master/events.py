"""The master's inbox and the events in it, which are facts in the past tense. Runs in the master."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from eggcluster.errors import FrameError
from eggcluster.model.lives.worker import ExitReport, Worker

MAX_LINES = 1000  # that wait for one requester; the last one, which ends them, comes in any case


class Progress:
    """Carries lines to one requester. It is ended once, with or without a failure.

    A requester that falls MAX_LINES behind misses lines. Once it has gone, the progress is `abandoned`.
    """

    def __init__(self) -> None:
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self.failure: str | None = None
        self.abandoned = False

    def say(self, line: str) -> None:
        """Add a line."""
        if not self.abandoned and self._lines.qsize() < MAX_LINES:
            self._lines.put_nowait(line)

    def abandon(self) -> None:
        """Take no more lines, because nothing reads them."""
        self.abandoned = True

    def end(self, failure: str | None = None) -> None:
        """End the lines; `failure` is why the request failed."""
        self.failure = failure
        self._lines.put_nowait(None)

    async def lines(self) -> AsyncIterator[str]:
        """Yield the lines as they come, until the end."""
        while (line := await self._lines.get()) is not None:
            yield line


@dataclass(frozen=True)
class Forked:
    """A worker has its worker id, and boots."""

    worker: Worker


@dataclass(frozen=True)
class Started:
    """The worker sent `agent-start` or `app-start`."""

    worker: Worker


@dataclass(frozen=True)
class BootFailed:
    """The worker reported why it cannot boot; its exit follows."""

    worker: Worker
    report: str
    bad_option: bool


@dataclass(frozen=True)
class Exited:
    """The worker and all processes that it started are known dead, or it is abandoned, or could not be started."""

    worker: Worker
    exit: ExitReport


@dataclass(frozen=True)
class ChannelBroke:
    """The worker broke the protocol, or (None) closed its channel and lives on."""

    worker: Worker
    error: FrameError | None


@dataclass(frozen=True)
class SignalReceived:
    """The master received a signal."""

    number: int


@dataclass(frozen=True)
class CloseRequested:
    """The close was requested: by a command or the parent, or because the parent or the terminal has gone. `why` is for
    the log."""

    why: str
    progress: Progress | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ReloadRequested:
    """New app workers were requested, and with `agent` a new agent. None: a new agent only if its code has changed.
    `own_files`: because of files of the application; nothing else has to be loaded anew."""

    agent: bool | None = None
    progress: Progress | None = field(default=None, repr=False)
    own_files: bool = False


Event = Forked | Started | BootFailed | Exited | ChannelBroke | SignalReceived | CloseRequested | ReloadRequested


class Inbox:
    """A queue with a deadline. Only the event loop's own thread may put events into it."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def put(self, event: Event) -> None:
        """Add an event, and return at once."""
        self._events.put_nowait(event)

    async def next(self, deadline: float | None) -> Event | None:
        """Wait for the next event and return it; None once the loop's clock has reached `deadline` (None: no limit)."""
        if not self._events.empty():
            return self._events.get_nowait()
        try:
            async with asyncio.timeout_at(deadline):
                return await self._events.get()
        except TimeoutError:
            return None
