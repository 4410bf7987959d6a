"""The outbox: sends frames over one channel from any thread, up to a bound. Runs in all workers and the parent."""

import asyncio
import logging
from collections.abc import Coroutine
from threading import Lock, get_ident
from typing import Any

from eggcluster.errors import MessengerBusy, MessengerClosed
from eggcluster.ipc.channel import Channel
from eggcluster.kernel.throttle import Throttle

MAX_QUEUE_BYTES = 64 * 1024 * 1024  # as in docs/options.md
LOG_INTERVAL = 1.0  # seconds between two log lines about messages that were not sent

_logger = logging.getLogger("eggcluster.messenger")


class Outbox:
    """Belongs to the event loop in which it was made; `write` and `run_in_loop` may be called from any thread."""

    def __init__(self, channel: Channel, max_queue_bytes: int = MAX_QUEUE_BYTES) -> None:
        self._channel = channel
        self._max_queue_bytes = max_queue_bytes
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._lock = Lock()
        self._throttle = Throttle(LOG_INTERVAL)
        self._handed_over_bytes = 0  # that other threads have handed to the loop, which has not written them yet

    def write(self, frame: bytes) -> None:
        """Queue a whole frame, and return at once.

        Raises MessengerBusy if too many bytes are waiting, MessengerClosed if the channel or its loop is closed.
        """
        if self._channel.exceeds(self._max_queue_bytes) or self._handed_over_bytes > self._max_queue_bytes:
            raise MessengerBusy(f"more than {self._max_queue_bytes} bytes are waiting to be sent; await drain() first")
        if get_ident() == self._thread:
            self._channel.write(frame)
        elif self._loop.is_closed():
            raise MessengerClosed("the event loop of the channel is closed")
        else:
            with self._lock:
                self._handed_over_bytes += len(frame)
            self._loop.call_soon_threadsafe(self._write_in_loop, frame)

    def _write_in_loop(self, frame: bytes) -> None:
        """Finish a write from another thread. Its caller has returned, so an error is logged here."""
        with self._lock:
            self._handed_over_bytes -= len(frame)
        try:
            self._channel.write(frame)
        except MessengerClosed:
            if self._throttle.allows():
                _logger.warning("a message was not sent: the channel is closed")

    def is_in_loop(self) -> bool:
        """Return whether the caller runs in the channel's loop. Its thread alone does not tell: it may run another."""
        return get_ident() == self._thread and self._loop.is_running()

    async def drain(self) -> None:
        """Wait until all written frames have left this process; MessengerClosed if the channel closes meanwhile."""
        await self.run_in_loop(self._channel.drain())

    async def run_in_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await `work` in the channel's loop, also from another loop: an async view under WSGI has its own.

        Cancelling it cancels `work`.
        """
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
