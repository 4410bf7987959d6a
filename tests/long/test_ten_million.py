"""Ten million messages: none lost, none doubled, none out of order. Minutes; only where EGG_LONG is set."""

import asyncio
import os
import time

import pytest

from tests.cluster.harness import Project
from tests.cluster.remote import ask, obedient
from tests.cluster.test_messenger import running

COUNT = 10_000_000
LIMIT = 900  # seconds

# The agent knows which number comes next: anything else is a loss, a double, or a change of order.
EXPECT = """
state = {"next": 0, "wrong": []}

@remote.messenger.on("number")
def expect(number):
    if number != state["next"]:
        state["wrong"].append([number, state["next"]])
    state["next"] = number + 1

remote.state = state
"""
SEND = f"""
state = sys.modules["remote"].state = {{"sent": 0}}
async def flood():
    for number in range({COUNT}):
        try:
            messenger.send_to_agent("number", number)
        except eggcluster.MessengerBusy:
            await messenger.drain()
            messenger.send_to_agent("number", number)
        if number % 1000 == 0:
            state["sent"] = number
            await asyncio.sleep(0)
    await messenger.drain()
state["task"] = asyncio.ensure_future(flood())
"""


@pytest.mark.skipif(not os.environ.get("EGG_LONG"), reason="the long suite: EGG_LONG=1")
@pytest.mark.timeout(LIMIT + 60)
def test_of_ten_million_messages_none_is_lost_doubled_or_out_of_order(project: Project) -> None:
    obedient(project, agent=EXPECT)

    async def scenario() -> None:
        async with running(project, workers=1) as cluster, asyncio.timeout(LIMIT):
            began = time.monotonic()
            await ask(cluster.messenger, "app#1", SEND)
            while await ask(cluster.messenger, "agent", "return state['next']") < COUNT:
                await asyncio.sleep(0.5)
            print(f"{COUNT / (time.monotonic() - began):,.0f} messages/s")  # noqa: T201
            # What comes twice would come behind the last one.
            await ask(cluster.messenger, "app#1", "await messenger.request('run', ['pass', None])")
            state = await ask(cluster.messenger, "agent", "return [state['next'], state['wrong'][:10]]")
            assert state == [COUNT, []]
            status = await cluster.status()
            assert (status.get("messages_dropped"), status["messages_to_nobody"]) == (0, 0)

    asyncio.run(scenario())
