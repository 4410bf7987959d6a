"""Every request of the load, one by one: how it ended, how long it took, and whose connection it was on."""

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a request ended. Everything but OK is a failure."""

    OK = "ok"
    REFUSED = "refused"  # the connection was not taken
    RESET = "reset"  # the connection was taken and broke before the answer was complete
    TIMED_OUT = "timed out"
    WRONG = "wrong answer"  # a complete one that is not what was asked for, an error status too


class WrongAnswer(Exception):
    """The answer came, and it is not the right one."""


@dataclass(frozen=True)
class Failure:
    """One request that failed. Instants are of the system's monotonic clock, the same in all processes."""

    outcome: str
    client: str
    began: float
    failed: float
    opened: float  # when its connection was opened
    port: int  # the client's own: what the server sees as the peer's; 0 if it never got one
    worker: str  # slot:pid of the last answer on this connection, "" before the first
    requests: int  # answered on this connection before
    received: int  # bytes of this answer that came
    detail: str


@dataclass
class Tally:
    """What the load has seen. `prompt` has (instant of the end, seconds) of each request that is answered at once."""

    counts: Counter[str] = field(default_factory=Counter)  # "client outcome" -> how many
    failures: list[Failure] = field(default_factory=list)
    prompt: list[tuple[float, float]] = field(default_factory=list)
    left: list[tuple[str, int, float]] = field(default_factory=list)  # streams: nonce, worker's pid, instant
    notes: Counter[str] = field(default_factory=Counter)  # what is worth a number and no failure

    def ok(self, client: str, began: float, *, prompt: bool) -> None:
        self.counts[f"{client} {Outcome.OK}"] += 1
        if prompt:
            now = time.monotonic()
            self.prompt.append((now, now - began))

    def failed(self, failure: Failure) -> None:
        self.counts[f"{failure.client} {failure.outcome}"] += 1
        self.failures.append(failure)

    def note(self, what: str) -> None:
        self.notes[what] += 1

    def to_plain(self) -> dict[str, Any]:
        """As JSON can carry it."""
        return {**vars(self), "failures": [asdict(failure) for failure in self.failures]}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Tally":
        failures = [Failure(**failure) for failure in plain["failures"]]
        prompt = [(end, seconds) for end, seconds in plain["prompt"]]
        left = [(nonce, worker, at) for nonce, worker, at in plain["left"]]
        return cls(Counter(plain["counts"]), failures, prompt, left, Counter(plain["notes"]))


def outcome_of(error: BaseException) -> Outcome:
    """What an exception of a client says about its request."""
    if isinstance(error, WrongAnswer):
        return Outcome.WRONG
    if isinstance(error, ConnectionRefusedError):
        return Outcome.REFUSED
    if isinstance(error, TimeoutError):
        return Outcome.TIMED_OUT
    return Outcome.RESET
