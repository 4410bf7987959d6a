"""A client that all workers share: the agent has it, the others follow."""

from collections.abc import Callable
from typing import Any

import both


class Registry:
    """Knows what was published; its followers are told."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.listeners: dict[str, list[Callable[[Any], None]]] = {}

    async def start(self) -> None:
        both.mark("registries", self.url)

    async def subscribe(self, channel: str, listener: Callable[[Any], None]) -> None:
        self.listeners.setdefault(channel, []).append(listener)

    async def tell(self, channel: str, news: str) -> int:
        """Gives how many subscriptions there are: equal ones of many workers are one."""
        for listener in self.listeners.get(channel, []):
            listener(news)
        return len(self.listeners.get(channel, []))
