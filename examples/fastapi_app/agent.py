"""The agent counts in one place what the workers receive in many, and says so once in ten seconds."""

from eggcluster import Agent

agent = Agent()
notes: list[str] = []


@agent.messenger.on("count")
def count(text: str) -> int:
    notes.append(text)
    return len(notes)


@agent.schedule(interval="10s")
async def report() -> None:
    agent.logger.info("%d notes so far", len(notes))
