"""Room for new connections: which of the present ones end when file descriptors run short. Runs in the app workers.

A connection that waits for its client can be done without, in this order; of each kind, the one that has waited longest
comes first:

- IDLE: the last request has been answered. A client that keeps its connection knows that it may end (RFC 9112, 9.3.1).
- UNFINISHED: a head, a TLS handshake or a PROXY header is not complete, or not begun, after PATIENCE.
- TRICKLING: a body comes in more slowly than any network carries it.

A connection for which the application works, or which takes a response, stays.
"""

import heapq
from collections.abc import Callable, Iterable
from typing import NamedTuple

IDLE, UNFINISHED, TRICKLING = range(3)

PATIENCE = 1.0  # seconds that a client has to say what it has connected for: some round trips
SHARE = 8  # at least this fraction (1/8) of what can be done without is closed at once: a look at all is not free
TRICKLE_TIME = 5.0  # seconds that a request has before its pace counts
TRICKLE_RATE = 240.0  # bytes a second, below which a body trickles; a modem of 1980 had 120


class Waiting(NamedTuple):
    """A connection that waits for its client: the kind, the instant since when, and what ends it."""

    kind: int
    since: float
    end: Callable[[], object]


def close_waiting(candidates: Iterable[Waiting], least: int, now: float) -> int:
    """End `least` of the candidates, or an eighth of them if that is more. Return how many were ended."""
    found = [each for each in candidates if each.kind != UNFINISHED or now - each.since >= PATIENCE]
    chosen = heapq.nsmallest(max(least, len(found) // SHARE), found, key=_rank)
    for waiting in chosen:
        waiting.end()
    return len(chosen)


def is_trickle(received: int, seconds: float) -> bool:
    """Return whether a body of which so many bytes came in so many seconds trickles."""
    return seconds > TRICKLE_TIME and received < TRICKLE_RATE * seconds


def _rank(waiting: Waiting) -> tuple[int, float]:
    return waiting.kind, waiting.since
