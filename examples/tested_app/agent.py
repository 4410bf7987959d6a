"""The agent counts the guests of all workers."""

import itertools

from eggcluster import Agent

agent = Agent()
numbers = itertools.count(1)


@agent.messenger.on("count")
def count(name: str) -> int:
    return next(numbers)
