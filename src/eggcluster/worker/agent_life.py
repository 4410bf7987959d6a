"""The agent worker's life. Runs in the agent."""

import contextlib
from typing import Any

from eggcluster.errors import EggclusterError
from eggcluster.worker.agent import Agent
from eggcluster.worker.hooks import Hooks
from eggcluster.worker.life import Life
from eggcluster.worker.sources import source_files
from eggcluster.worker.target import load_agent

FAREWELL = 1.0  # seconds for the last messages, and again for their async handlers


class AgentLife(Life):
    """Boot: import `agent.py`, run its `on_start`. Close: cancel its tasks, run its `on_close`."""

    start_report = "agent-start"
    agent: Agent

    def load(self) -> Hooks:
        self.agent = load_agent(self.options)
        return self.agent

    async def boot(self) -> None:
        await self.agent.run_start()
        self.times.done("on_start")

    def start_details(self) -> dict[str, Any]:
        return {"sources": source_files()}

    async def close(self) -> bool:
        await self._hear_all()
        return await self.agent.run_close()

    async def _hear_all(self) -> None:
        """Let everything be handled that was sent to this agent; from now on it is kept for the next one.

        The master's answer comes behind all that it has relayed so far.
        """
        with contextlib.suppress(EggclusterError):
            await self.messenger.request("leave", to="master", timeout=FAREWELL)
        await self.messenger.settle(FAREWELL)
