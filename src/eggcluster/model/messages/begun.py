"""How far a worker has come with the messages that were relayed to it. Pure; the master reads it, workers write it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Begun:
    """Messages are counted in the order in which they were relayed to a worker, requests too, from 1.

    A message has begun when the first line of its handler runs; they begin in their order. So all up to `count` have
    begun. `unfinished` are the numbers of those whose handlers run.
    """

    count: int = 0
    unfinished: frozenset[int] = frozenset()
