"""The outbox: what leaves this process over its channel, from whichever thread, within a bound. Runs in every child."""

import asyncio
import logging
from collections.abc import Coroutine
from threading import Lock, get_ident
from typing import Any

from eggcluster.errors import MessengerBusy, MessengerClosed
from eggcluster.ipc.channel import Channel

MAX_QUEUE_BYTES = 64 * 1024 * 1024  # as in docs/options.md

_logger = logging.getLogger("eggcluster.messenger")


class Outbox:
    """Belongs to the event loop in which it was made; `write` and `on_loop` may be called from anywhere."""

    def __init__(self, channel: Channel, max_queue_bytes: int = MAX_QUEUE_BYTES) -> None:
        self._channel = channel
        self._max_queue_bytes = max_queue_bytes
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._lock = Lock()
        self._on_its_way = 0  # bytes that other threads have handed to the loop, and it has not taken yet

    def write(self, frame: bytes) -> None:
        """Queue a whole frame; returns at once. MessengerBusy when too much is waiting, MessengerClosed when the
        channel or its loop is closed."""
        if self._channel.exceeds(self._max_queue_bytes) or self._on_its_way > self._max_queue_bytes:
            raise MessengerBusy(f"more than {self._max_queue_bytes} bytes are waiting to be sent; await drain() first")
        if get_ident() == self._thread:
            self._channel.write(frame)
        elif self._loop.is_closed():
            raise MessengerClosed("the worker's event loop has been closed")
        else:
            with self._lock:
                self._on_its_way += len(frame)
            self._loop.call_soon_threadsafe(self._take, frame)

    def _take(self, frame: bytes) -> None:
        """The loop's half of a send from another thread: nobody is there any more to catch an error."""
        with self._lock:
            self._on_its_way -= len(frame)
        try:
            self._channel.write(frame)
        except MessengerClosed:
            _logger.warning("a message was not sent: the channel to the master is closed")

    def is_here(self) -> bool:
        """Whether the caller runs in the channel's loop. Its thread may have another one while this one rests."""
        return get_ident() == self._thread and self._loop.is_running()

    async def drain(self) -> None:
        """Wait until all that was written has left this process; MessengerClosed if the channel closes meanwhile."""
        await self.on_loop(self._channel.drain())

    async def on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await `work` in the channel's loop, also from another one (an async view under WSGI has its own)."""
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
