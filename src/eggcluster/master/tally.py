"""What has happened to the workers since the start, counted. Runs in the master."""

from collections import Counter

from eggcluster.model.lives.commands import Abort, Command, ReloadEnded, ReportDeath
from eggcluster.model.lives.worker import Worker


class Tally:
    """Counts deaths by slot and cause (`hung`, a signal's name, or `exit`), and reloads by their end."""

    def __init__(self) -> None:
        self.deaths: Counter[tuple[int, str]] = Counter()
        self.reloads: Counter[str] = Counter()
        self._hung: set[Worker] = set()

    def count(self, command: Command) -> None:
        """Count what a command of the supervisor says."""
        match command:
            case Abort(worker):
                self._hung.add(worker)
            case ReportDeath(worker, exit, _):
                cause = "hung" if worker in self._hung else exit.signal or "exit"
                self._hung.discard(worker)
                self.deaths[worker.slot, cause] += 1
            case ReloadEnded(failure):
                self.reloads["failed" if failure else "done"] += 1
