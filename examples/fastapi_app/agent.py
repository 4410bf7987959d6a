"""The agent counts in one place what all workers receive, and reports it every ten seconds."""

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
