"""The agent counts the visits of all workers and shares the sums."""

from collections import Counter

from eggcluster import Agent

agent = Agent()
visits: Counter[str] = Counter()


@agent.messenger.on("visit")
def count(page: str) -> None:
    visits[page] += 1
    agent.messenger.send_to_app("visits", dict(visits))
