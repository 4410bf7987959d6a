"""Counts what the app workers send. Runs in the agent."""

from eggcluster import Agent

agent = Agent()
count = 0


@agent.messenger.on("flood")
def flood(data: bytes) -> None:
    global count
    count += 1


@agent.messenger.on("flooded")
def flooded(data: None) -> int:
    return count
