"""Whether a run may begin while others of its task are under way, anywhere in the cluster. Pure bookkeeping."""

from enum import Enum, auto


class Verdict(Enum):
    """What becomes of a run that wants to begin."""

    RUN = auto()
    WAIT = auto()
    SKIP = auto()


class Gate:
    """One task's. `overlap` is "skip", "queue" (one waits, those beyond it are skipped) or "allow"."""

    def __init__(self, overlap: str) -> None:
        self.overlap = overlap
        self.running = 0
        self.waiting = 0

    def arrive(self) -> Verdict:
        """A run wants to begin; one that may run, or waits, is counted."""
        if not self.running or self.overlap == "allow":
            self.running += 1
            return Verdict.RUN
        if self.overlap == "queue" and not self.waiting:
            self.waiting += 1
            return Verdict.WAIT
        return Verdict.SKIP

    def adopt(self) -> None:
        """A run is under way that began before this gate was there."""
        self.running += 1

    def leave(self) -> bool:
        """A run has ended; True where the one that waits may begin now, and is counted as running."""
        self.running -= 1
        if self.running or not self.waiting:
            return False
        self.waiting -= 1
        self.running += 1
        return True
