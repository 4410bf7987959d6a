"""The same tasks in APScheduler's AsyncIOScheduler, on the same event loop (uvloop). Runs as a process of its own."""

import asyncio
import datetime
import time

import uvloop
from apscheduler.schedulers.asyncio import AsyncIOScheduler  # type: ignore[import-not-found]
from lateness import INTERVAL, late_by_grid, load, note  # type: ignore[import-not-found]


async def main() -> None:
    anchor = time.time() + 1

    async def interval() -> None:
        note("interval", late_by_grid(anchor, INTERVAL))

    async def cron() -> None:
        note("cron", late_by_grid(0, 1))

    scheduler = AsyncIOScheduler(timezone=datetime.UTC)
    start = datetime.datetime.fromtimestamp(anchor, datetime.UTC)
    scheduler.add_job(interval, "interval", seconds=INTERVAL, start_date=start)
    scheduler.add_job(cron, "cron", second="*")
    scheduler.start()
    print("ready", flush=True)  # noqa: T201
    await load()
    await asyncio.Event().wait()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
