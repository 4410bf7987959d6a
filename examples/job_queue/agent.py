"""One connection takes jobs from a Redis list and gives each to one listening worker: a schedule type of our own.

A job is taken off the list of those under way once its run has ended well, so a crash of anything loses none.
"""

import os
from typing import Any

import redis.asyncio

from eggcluster import Agent, ScheduleStrategy

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")

agent = Agent()


@agent.schedule.use("queue")
class Queue(ScheduleStrategy):
    async def start(self) -> None:
        """Runs from the cluster's readiness on; restarted with growing delays when Redis goes away."""
        waiting = self.terms.options["list"]
        broker: Any
        async with redis.asyncio.from_url(URL, decode_responses=True) as broker:
            while await broker.lmove(f"{waiting}:taken", waiting, "RIGHT", "LEFT"):
                pass  # what an earlier agent had taken and not finished
            while True:
                job = await broker.blmove(waiting, f"{waiting}:taken", 0, "LEFT", "RIGHT")
                await self.give(broker, waiting, job)

    async def give(self, broker: Any, waiting: str, job: str) -> None:
        run = await self.send_one(job)
        if run.outcome != "ok":
            self.logger.warning("job %s %s: %s", job, run.outcome, run.error)
            await broker.rpush(f"{waiting}:failed", job)
        await broker.lrem(f"{waiting}:taken", 1, job)
