"""The stage as an application of a cluster: its boot takes a random time. Runs in the app workers."""

import asyncio
import os
import random
import time

from eggcluster import Application, messenger
from tests.chaos.served.stage import HARMLESS, api

SEED = os.environ.get("EGG_CHAOS_SEED", "")
BOOT = float(os.environ.get("EGG_CHAOS_BOOT", "0"))  # seconds that a boot takes at most

HARMLESS["agent-exit"] = lambda: messenger.send_to_agent("fault", "exit")
HARMLESS["agent-sleep"] = lambda: messenger.send_to_agent("fault", "sleep")

app = Application(api)


@app.on_start
async def boot() -> None:
    """Half of it blocks, as imports do; half of it waits, as connecting does."""
    seconds = seconds_of_boot()
    time.sleep(seconds / 2)  # noqa: ASYNC251
    await asyncio.sleep(seconds / 2)


def seconds_of_boot() -> float:
    """Another time for each incarnation, and the same one when a seed is played again."""
    return random.Random(f"{SEED} {app.slot} {app.generation}").uniform(0, BOOT)
