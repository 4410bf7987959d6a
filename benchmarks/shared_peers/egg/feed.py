"""What is measured: a client that answers, and pushes what it is told to. Its Redis twin does the same."""

import asyncio
import time
from collections.abc import Callable
from typing import Any


class Feed:
    """Lives in the agent. `burst` pushes a number of values with the time at which each left."""

    def __init__(self) -> None:
        self.listener: Callable[[Any], None] = lambda value: None

    def subscribe(self, info: str, listener: Callable[[Any], None]) -> None:
        self.listener = listener

    async def echo(self, data: bytes) -> bytes:
        return data

    async def burst(self, count: int, size: int, pause: float) -> None:
        payload = bytes(size)
        for number in range(count):
            self.listener([number, time.monotonic_ns(), payload])
            if pause or number % 50 == 49:
                await asyncio.sleep(pause)
