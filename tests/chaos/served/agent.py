"""The agent under fire: single in all weathers, and notes it when it is not. Runs in the agent."""

import fcntl
import os
import random
import time

from eggcluster import Agent
from tests.chaos.served.said import said

FOREVER = 600  # seconds
BALLAST = "=" * 800_000  # an onlooker that does not read would be expensive if all of it were kept
BOOT = float(os.environ.get("EGG_CHAOS_BOOT", "0"))

agent = Agent()
_lock = open("agent.lock", "w")  # noqa: SIM115  # held for the agent's whole life
try:
    fcntl.flock(_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    with open("agent.overlaps", "a") as overlaps:
        overlaps.write(f"{os.getpid()}\n")


@agent.on_start
async def boot() -> None:
    time.sleep(random.Random(f"agent {agent.generation}").uniform(0, BOOT / 2))  # noqa: ASYNC251


@agent.messenger.on("fault")
def fault(kind: str) -> None:
    if kind == "exit":
        os._exit(7)
    time.sleep(FOREVER)


@agent.schedule(interval="500ms")
async def tell() -> None:
    """Some traffic for the messenger."""
    agent.messenger.send_to_app("tick", {"from": os.getpid(), "ballast": BALLAST})
    said.say("tick")
