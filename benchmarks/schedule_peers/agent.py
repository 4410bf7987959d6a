"""Our tasks in the agent. Runs in a cluster that the benchmark starts, with the folder as its base directory."""

import time

from lateness import INTERVAL, late_by_grid, load, note  # type: ignore[import-not-found]

from eggcluster import Agent, scheduled_for

agent = Agent()
agent.background(load)


@agent.schedule(INTERVAL)
async def own_interval() -> None:
    note("interval, the agent", time.time() - (scheduled_for() or 0.0))


@agent.schedule(cron="* * * * * *")
async def own_cron() -> None:
    note("cron, the agent", late_by_grid(0, 1))
