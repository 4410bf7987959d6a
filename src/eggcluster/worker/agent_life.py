"""The agent worker's life. Runs in the agent."""

from typing import Any

from eggcluster.kernel.inherited import inherited_socket
from eggcluster.worker.agent import Agent
from eggcluster.worker.hooks import Hooks
from eggcluster.worker.life import Life
from eggcluster.worker.sources import source_files
from eggcluster.worker.target import load_agent


class AgentLife(Life):
    """Boot: import `agent.py`, run its `on_start`. Close: cancel its tasks, run its `on_close`."""

    start_report = "agent-start"
    agent: Agent

    def load(self) -> Hooks:
        self.agent = load_agent(self.options)
        if self.order.cluster_fd is not None:
            self.agent.cluster_socket = inherited_socket(self.order.cluster_fd)
        return self.agent

    async def boot(self) -> None:
        await self.agent.run_start()

    def start_details(self) -> dict[str, Any]:
        return {"sources": source_files()}

    async def close(self) -> bool:
        return await self.agent.run_close()
