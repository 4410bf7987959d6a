"""What `eggcluster events` shows: deaths, starts, reloads as they happen. Runs in the master.

It is told every event and every command, and makes a description of those that people want to hear of.
"""

import time
from typing import Any

from eggcluster.master.events import Event, Exited, Started
from eggcluster.master.relay.watchers import Watcher
from eggcluster.model.lives.commands import (
    Abort,
    CloseListeners,
    Command,
    Fork,
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
    """Shows what happens to whoever looks on; with nobody there it does nothing."""

    def __init__(self) -> None:
        self._onlookers: set[Watcher] = set()

    def observe(self, onlooker: Watcher) -> None:
        """Show everything from now on, until `ignore`."""
        self._onlookers.add(onlooker)

    def ignore(self, onlooker: Watcher) -> None:
        """Show it nothing more."""
        self._onlookers.discard(onlooker)

    def happened(self, event: Event) -> None:
        """An event, before anything is done about it."""
        match event:
            case Started(worker) if worker.state is WorkerState.STARTING:
                self._tell("started", worker)
            case Exited(worker, exit) if worker.state is WorkerState.STOPPING:
                self._tell("exited", worker, code=exit.code, signal=exit.signal)

    def ordered(self, command: Command) -> None:
        """A command that has just been carried out."""
        match command:
            case Fork(worker):
                self._tell("starting", worker)
            case Stop(worker, grace):
                self._tell("stopping", worker, grace=grace)
            case Kill(worker):
                self._tell("killed", worker, reason=_reason(worker))
            case Abort(worker):
                self._tell("hung", worker, reason=worker.kill_reason)
            case Steer(changed):
                for worker in changed:
                    self._tell("stalled" if worker.stalled else "moves", worker)
            case ReportDeath(worker, exit, state):
                reason = _reason(worker)
                self._tell("died", worker, code=exit.code, signal=exit.signal, state=state, reason=reason)
            case NotifyReady(None):
                self._tell("ready")
            case CloseListeners():
                self._tell("closing")
            case ReloadEnded(failure):
                self._tell("reloaded" if failure is None else "reload failed", reason=failure)
            case Log(_, text, True):
                self._tell("reload", reason=text)

    def _tell(self, what: str, worker: Worker | None = None, **details: Any) -> None:
        if not self._onlookers:
            return
        description: dict[str, Any] = {"time": time.time(), "event": what}
        if worker is not None:
            description["who"] = str(worker.address)
            description["worker_id"] = worker.worker_id
            description["generation"] = worker.generation
        description |= {name: value for name, value in details.items() if value is not None}
        for onlooker in self._onlookers:
            onlooker.show(description)


def _reason(worker: Worker) -> str | None:
    """In one line why it is ended, or has ended."""
    return worker.kill_reason or (worker.failure.splitlines()[0] if worker.failure else None)
