"""The event feed, which `eggcluster events` shows: starts, deaths and reloads as they happen. Runs in the master.

The master passes every event and every command to it. It makes descriptions of those that tell what happens to workers.
"""

import time
from typing import Any

from eggcluster.master.events import Event, Exited, Forked, Started
from eggcluster.master.relay.watchers import MAX_TEXT, Watcher
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


class EventFeed:
    """Sends descriptions to the watchers; without a watcher it does nothing."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    def observe(self, watcher: Watcher) -> None:
        """Show everything to the watcher from now on, until `ignore`."""
        self._watchers.add(watcher)

    def ignore(self, watcher: Watcher) -> None:
        """Show the watcher nothing more."""
        self._watchers.discard(watcher)

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
        if not self._watchers:
            return
        description: dict[str, Any] = {"time": time.time(), "event": what}
        if worker is not None:
            description["who"] = str(worker.address)
            description["worker_id"] = worker.worker_id
            description["generation"] = worker.generation
        description |= {name: value for name, value in details.items() if value is not None}
        for watcher in self._watchers:
            watcher.show(description)


def _reason(worker: Worker) -> str | None:
    """Return in one line why the worker is killed, or has ended."""
    reason = worker.kill_reason or (worker.failure.splitlines()[0] if worker.failure else None)
    return reason and reason[:MAX_TEXT]
