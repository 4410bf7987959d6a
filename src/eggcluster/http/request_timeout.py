"""The time limit of requests (`--request-timeout`): finds those that take too long. Runs in the app workers."""

from collections.abc import Collection
from typing import Protocol

UNSEEN = 0.0  # the deadline of a request that no check has seen: most end before, and cost nothing
GRACE = 1.0  # seconds after the limit in which a cancelled task has to end, or a thread to come back


class LimitedRequest(Protocol):
    """A request that the application serves, as its time limit sees it."""

    deadline: float

    @property
    def is_limited(self) -> bool:
        """Whether it has a time limit at all."""

    def time_out(self) -> None:
        """Answer in the application's place, log where it is, and have it stop."""

    def outlast(self) -> None:
        """The application is still at it, GRACE seconds after `time_out`."""


class TimeLimit:
    """Ends each of the `running` requests that takes longer than `seconds`, or than it has set its deadline to.

    A request gets its deadline at the first check that sees it. So it has its full time, and up to the interval of the
    checks more.
    """

    def __init__(self, seconds: float, running: Collection[LimitedRequest]) -> None:
        self._seconds = seconds
        self._running = running
        self._timed_out: dict[LimitedRequest, float] = {}  # with the end of their grace

    def check(self, now: float) -> None:
        """Act on what is overdue at the instant `now`."""
        for request, end in list(self._timed_out.items()):
            if request not in self._running:
                del self._timed_out[request]
            elif end <= now:
                self._timed_out[request] = float("inf")
                request.outlast()
        for request in [each for each in self._running if each.deadline <= now]:
            if request.is_limited and request not in self._timed_out:
                self._check(request, now)

    def _check(self, request: LimitedRequest, now: float) -> None:
        if request.deadline == UNSEEN:
            request.deadline = now + self._seconds
        else:
            self._timed_out[request] = now + GRACE
            request.time_out()
