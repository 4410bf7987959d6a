"""The event feed, which `eggcluster events` shows: starts, deaths and reloads as they happen. Runs in the master.

The master passes every event and every command to it. It makes descriptions of those that tell what happens to workers.
"""

import time
from typing import Any, Protocol

from eggcluster.master.events import Event, Exited, Forked, Started
from eggcluster.master.relay.watchers import MAX_TEXT
from eggcluster.model.lives.commands import (
    Abort,
    CloseListeners,
    Command,
    Kill,
    Log,
    NotifyReady,
    ReloadEnded,
    ReportDeath,
    Steer,
    Stop,
)
from eggcluster.model.lives.worker import Worker, WorkerState


class FeedReader(Protocol):
    """What reads the feed: a client that watches, or a part of the master."""

    def show(self, description: dict[str, Any]) -> None: ...


class EventFeed:
    """Sends descriptions to the readers; without a reader it does nothing."""

    def __init__(self) -> None:
        self._readers: set[FeedReader] = set()

    def observe(self, reader: FeedReader) -> None:
        """Show everything to the reader from now on, until `ignore`."""
        self._readers.add(reader)

    def ignore(self, reader: FeedReader) -> None:
        """Show the reader nothing more."""
        self._readers.discard(reader)

    def show_event(self, event: Event) -> None:
        """Show an event. Call it before the supervisor acts on the event, which may change the worker's state."""
        match event:
            case Forked(worker):
                self._show("starting", worker)
            case Started(worker) if worker.state is WorkerState.STARTING:
                self._show("started", worker)
            case Exited(worker, exit) if worker.state is WorkerState.STOPPING:
                self._show("exited", worker, code=exit.code, signal=exit.signal)

    def show_command(self, command: Command) -> None:
        """Show a command that has just been carried out."""
        match command:
            case Stop(workers, grace):
                for worker in workers:
                    self._show("stopping", worker, grace=grace)
            case Kill(worker):
                self._show("killed", worker, reason=_reason(worker))
            case Abort(worker):
                self._show("hung", worker, reason=worker.kill_reason)
            case Steer(changed):
                for worker in changed:
                    self._show("stalled" if worker.stalled else "resumed", worker)
            case ReportDeath(worker, exit, state):
                reason = _reason(worker)
                self._show("died", worker, code=exit.code, signal=exit.signal, state=state, reason=reason)
            case NotifyReady(None):
                self._show("ready")
            case CloseListeners():
                self._show("closing")
            case ReloadEnded(failure):
                self._show("reloaded" if failure is None else "reload failed", reason=failure and failure[:MAX_TEXT])
            case Log(_, text, True):
                self._show("reload", reason=text[:MAX_TEXT])

    def _show(self, what: str, worker: Worker | None = None, **details: Any) -> None:
        if not self._readers:
            return
        description: dict[str, Any] = {"time": time.time(), "event": what}
        if worker is not None:
            description["who"] = str(worker.address)
            description["worker_id"] = worker.worker_id
            description["generation"] = worker.generation
        description |= {name: value for name, value in details.items() if value is not None}
        for reader in self._readers:
            reader.show(description)


def _reason(worker: Worker) -> str | None:
    """Return in one line why the worker is killed, or has ended."""
    reason = worker.kill_reason or (worker.failure.splitlines()[0] if worker.failure else None)
    return reason and reason[:MAX_TEXT]
