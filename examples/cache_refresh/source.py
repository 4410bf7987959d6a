"""The source, and a feed that pushes what changes in it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("prices.json")


def load() -> dict[str, float]:
    prices: dict[str, float] = json.loads(SOURCE.read_text())
    return prices


class PriceFeed:
    """Stands for the client of a registry, a broker or a database that notifies; the real one is in the agent only."""

    def __init__(self) -> None:
        self.listeners: dict[str, Callable[[Any], None]] = {}

    async def subscribe(self, product: str, listener: Callable[[Any], None]) -> None:
        self.listeners[product] = listener
        listener({"product": product, "price": load().get(product)})

    async def publish(self, news: dict[str, Any]) -> None:
        """Report a new price to the feed, which notifies all subscribers."""
        if listener := self.listeners.get(news["product"]):
            listener(news)
