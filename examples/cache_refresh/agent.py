"""One process looks at the source, not one per worker: here a file, elsewhere a database or a remote API."""

from datetime import UTC, datetime
from pathlib import Path

from eggcluster import Agent

SOURCE = Path(__file__).with_name("prices.json")

agent = Agent()
seen = SOURCE.stat().st_mtime


@agent.schedule(interval="1s")
def poll() -> None:
    global seen
    changed = SOURCE.stat().st_mtime
    if changed != seen:
        seen = changed
        agent.messenger.send_to_app("refresh", {"changed": datetime.fromtimestamp(changed, UTC)})
