"""The agent keeps the one counter that all workers share."""

from collections import Counter

from eggcluster import Agent

agent = Agent()
visits: Counter[str] = Counter()


@agent.messenger.on("visit")
def count(path: str) -> int:
    visits[path] += 1
    return visits[path]
