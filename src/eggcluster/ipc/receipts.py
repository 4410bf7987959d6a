"""Receipts: telling the master how many messages have been read here. Runs in every child.

What it sent beyond that is lost if this process dies, and is then counted as dropped.
"""

import asyncio
from collections.abc import Callable

INTERVAL = 0.1  # seconds between two receipts while messages come


class Receipts:
    """Counts; `send` gets the count, modulo 2**32, now and then while messages come."""

    def __init__(self, send: Callable[[int], None]) -> None:
        self._send = send
        self._received = 0
        self._next: asyncio.TimerHandle | None = None

    def count(self, messages: int) -> None:
        """So many more have been read."""
        self._received += messages
        if self._next is None:
            self._next = asyncio.get_running_loop().call_later(INTERVAL, self.give)

    def give(self) -> None:
        """Send one now; done by itself while messages come, and once more before a planned end."""
        self.stop()
        self._send(self._received & 0xFFFFFFFF)

    def stop(self) -> None:
        """Send none any more; may be called again."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
