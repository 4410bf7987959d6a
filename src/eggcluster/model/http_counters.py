"""Counters of HTTP in shared memory: responses by class and duration, bytes. Pure; runs in app workers and the master.

One number stands for each pair of a status class and a duration's bucket, so that a response costs one increment.
"""

from bisect import bisect_left
from collections.abc import Sequence

# Upper bounds of the buckets, in seconds; one more bucket has no bound.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CLASSES = 5  # 1xx to 5xx
_BUCKETS = len(BOUNDS) + 1
_DURATION = CLASSES * _BUCKETS  # the sum of all durations, in nanoseconds
_RECEIVED, _SENT = _DURATION + 1, _DURATION + 2  # bytes of bodies
SIZE = _DURATION + 3
_NANO = 1_000_000_000


class HttpMeter:
    """Counts responses in `numbers`, which are SIZE unsigned 64-bit integers. One thread alone may use it."""

    def __init__(self, numbers: memoryview) -> None:
        self._numbers = numbers

    def count(self, status: int, seconds: float, received: int, sent: int) -> None:
        """Count a response that has ended, `seconds` after its request's head had been read."""
        numbers = self._numbers
        status_class = status // 100 - 1
        if not 0 <= status_class < CLASSES:
            status_class = CLASSES - 1  # what no client understands counts as an error of the server
        numbers[status_class * _BUCKETS + bisect_left(BOUNDS, seconds)] += 1
        numbers[_DURATION] += int(seconds * _NANO)
        if received:
            numbers[_RECEIVED] += received
        numbers[_SENT] += sent


class HttpCounts:
    """The sum of what several workers have counted."""

    def __init__(self) -> None:
        self.numbers: Sequence[int] = [0] * SIZE

    def add(self, numbers: Sequence[int] | memoryview) -> None:
        """Add what one worker has counted."""
        self.numbers = [own + more for own, more in zip(self.numbers, numbers, strict=True)]

    def copy(self) -> "HttpCounts":
        """Return counts that go on by themselves."""
        other = HttpCounts()
        other.numbers = self.numbers
        return other

    def responses(self, status_class: int) -> int:
        """Return how many responses had a status of this class: 1 to 5."""
        first = (status_class - 1) * _BUCKETS
        return sum(self.numbers[first : first + _BUCKETS])

    def durations(self) -> list[int]:
        """Return how many responses fell into each bucket, the one without a bound at the end."""
        return [sum(self.numbers[bucket:_DURATION:_BUCKETS]) for bucket in range(_BUCKETS)]

    @property
    def seconds(self) -> float:
        """The sum of all durations."""
        return self.numbers[_DURATION] / _NANO

    @property
    def received(self) -> int:
        """Bytes of request bodies."""
        return self.numbers[_RECEIVED]

    @property
    def sent(self) -> int:
        """Bytes of response bodies."""
        return self.numbers[_SENT]
