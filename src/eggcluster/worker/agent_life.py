"""The agent worker's life. Runs in the agent."""

from eggcluster.worker.agent import Agent
from eggcluster.worker.hooks import Hooks
from eggcluster.worker.life import Life
from eggcluster.worker.target import load_agent


class AgentLife(Life):
    """Boot: import `agent.py`, run its `on_start`. Close: cancel its tasks, run its `on_close`."""

    start_report = "agent-start"
    agent: Agent

    def load(self) -> Hooks:
        self.agent = load_agent(self.options)
        return self.agent

    async def boot(self) -> None:
        await self.agent.run_start()

    async def close(self) -> None:
        await self.agent.run_close()
