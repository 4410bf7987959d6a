"""One process watches the source, not one per worker: here a file, elsewhere a database or a remote API.

Three ways to keep the workers' caches fresh, from the simplest to the fastest; a real application chooses.
"""

import os

from source import SOURCE, PriceFeed

from eggcluster import Agent

agent = Agent()
feed = agent.cluster(PriceFeed).create()  # 3. pushed: the feed's one connection; the workers subscribe to it
seen = SOURCE.stat().st_mtime


@agent.schedule(interval="10m")
def force() -> None:
    """1. Forced: all workers read again, whatever has happened. Late, but no mistake lasts for long."""
    agent.messenger.send_to_app("refresh", "ten minutes have passed")


@agent.schedule(interval=os.environ.get("ASK_EVERY", "10s"))
def ask() -> None:
    """2. Polled: all workers read again only if the source has changed."""
    global seen
    changed = SOURCE.stat().st_mtime
    if changed != seen:
        seen = changed
        agent.messenger.send_to_app("refresh", "the source has changed")
