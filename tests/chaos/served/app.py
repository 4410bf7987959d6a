"""The stage as an application of a cluster: its boot takes a random time. Runs in the app workers."""

import asyncio
import os
import random
import time

from eggcluster import Application, LeaderGone, RequestTimeout, messenger
from tests.chaos.served.endless import Endless
from tests.chaos.served.said import said
from tests.chaos.served.stage import ANSWERS, HARMLESS, Receive, Scope, Send, answer, api

SEED = os.environ.get("EGG_CHAOS_SEED", "")
BOOT = float(os.environ.get("EGG_CHAOS_BOOT", "0"))  # seconds that a boot takes at most

HARMLESS["agent-exit"] = lambda: messenger.send_to_agent("fault", "exit")
HARMLESS["agent-sleep"] = lambda: messenger.send_to_agent("fault", "sleep")

HARMLESS["doze"] = lambda: messenger.send_to_app("doze")
DOZE = 1.5  # seconds; with what else blocks, less than the worker timeout
PATIENCE = 2.5  # seconds that a write may wait for an agent; a drain that began meanwhile waits longer
REST = 6.0  # seconds between two of them in one worker


async def count(key: str, receive: Receive, send: Send) -> None:
    """One more in the shared dictionary: the new number, or why there is none."""
    try:
        async with asyncio.timeout(PATIENCE):
            number = await shared.increment(key)
    except (LeaderGone, RequestTimeout, TimeoutError) as error:
        await answer(send, type(error).__name__)
    else:
        await answer(send, str(number))


async def talkative(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        said.say(scope["path"])
    await api(scope, receive, send)


app = Application(talkative)
shared = app.shared
ANSWERS["count"] = count
ANSWERS["endless"] = Endless(app).serve
_dozed_at = 0.0


@app.messenger.on("doze")
async def doze(data: object) -> None:
    """The event loop stands still, in every worker at once."""
    global _dozed_at
    if time.monotonic() - _dozed_at > REST:
        _dozed_at = time.monotonic()
        time.sleep(DOZE)  # noqa: ASYNC251


@app.on_start
async def boot() -> None:
    """Half of it blocks, as imports do; half of it waits, as connecting does."""
    seconds = seconds_of_boot()
    time.sleep(seconds / 2)  # noqa: ASYNC251
    await asyncio.sleep(seconds / 2)


def seconds_of_boot() -> float:
    """Another time for each incarnation, and the same one when a seed is played again."""
    return random.Random(f"{SEED} {app.slot} {app.generation}").uniform(0, BOOT)
