"""The only writer of the shared dictionary; sends changes to the app workers. Runs in the agent (and in tests).

A write is acknowledged only after its change was handed to the kernel for every worker that keeps up. The kernel
delivers it even if the agent dies. So an acknowledged write survives the agent as long as one of these workers lives.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from eggcluster.errors import MessengerError
from eggcluster.ipc.direct_connection import DirectConnection
from eggcluster.ipc.frame import encode_frame
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.shared.shared_store import Store, Write
from eggcluster.model.shared.shared_table import Change

SWEEP_INTERVAL = 0.05  # seconds at least between two sweeps of expired entries; readers check the clock themselves


_logger = logging.getLogger("eggcluster.shared")


class SharedWriter:
    """Owns the store. `on_change` gets each change, after the workers. `restored` is set when writes are allowed.
    Without `sweeps` (no lasting event loop), expired entries are deleted only when the space is needed."""

    def __init__(
        self,
        generation: int,
        on_change: Callable[[Change], None],
        on_first_write: Callable[[], None] = lambda: None,
        *,
        sweeps: bool = True,
    ) -> None:
        self.store = Store(generation)
        self.restored = asyncio.Event()
        self.has_written = False
        self._on_change = on_change
        self._on_first_write = on_first_write
        self._sweeps = sweeps
        self._connections: dict[DirectConnection, None] = {}
        self._waiting: list[Callable[[], None]] = []  # called when this turn's changes have been handed over
        self._turn_ends = False
        self._sweep: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Allow writes: any earlier content has been restored."""
        self.restored.set()
        self._plan_next_sweep()

    async def write(self, write: Write) -> Any:
        """Carry out a write of the agent, as `Store.carry_out`; return when it is acknowledged like a worker's."""
        await self.restored.wait()
        result = self.carry_out(write)
        if self._connections:
            handed_over = asyncio.Event()
            self.after_turn(handed_over.set)
            await handed_over.wait()
        return result

    def carry_out(self, write: Write) -> Any:
        """Carry out a write, as `Store.carry_out`, and send the change to the workers."""
        try:
            return self.store.carry_out(write, time.monotonic())
        finally:
            self.publish()

    def after_turn(self, acknowledge: Callable[[], None]) -> None:
        """Call `acknowledge` when the changes of this turn of the loop have been handed to the kernel."""
        self._waiting.append(acknowledge)
        if not self._turn_ends:
            self._turn_ends = True
            asyncio.get_running_loop().call_soon(self._end_turn)

    def add_connection(self, connection: DirectConnection) -> None:
        """Send a worker the whole table now, and then every change."""
        connection.write(self._whole_table())
        self._connections[connection] = None

    def send_again(self) -> None:
        """Send all workers the whole table: it has got changes whose versions are older than theirs."""
        self.publish()
        frame = self._whole_table()
        for connection in self._connections:
            with contextlib.suppress(MessengerError):  # it has gone, or does not read: then it is behind, as before
                connection.write(frame)

    def _whole_table(self) -> bytes:
        return encode_frame(FrameKind.MESSAGE, Target.APPS, ("copy", self.store.copy()))

    def remove_connection(self, connection: DirectConnection) -> None:
        """Send nothing more to a connection that has closed."""
        self._connections.pop(connection, None)

    def close(self) -> None:
        """Stop the sweeps."""
        if self._sweep is not None:
            self._sweep.cancel()

    def publish(self) -> None:
        """Send the store's new changes to the workers."""
        changes, self.store.changes = self.store.changes, []
        if changes and not self.has_written:
            self.has_written = True
            self._on_first_write()
        for change in changes:
            if self._connections:
                frame = encode_frame(FrameKind.MESSAGE, Target.APPS, ("change", change))
                for connection in self._connections:
                    connection.send_latest(("shared", change[0]), frame)
            self._on_change(change)
        ends = [entry.expires for _, entry in changes if entry.expires is not None]
        if ends and self._sweeps:
            self._plan_sweep(min(ends))

    def _end_turn(self) -> None:
        self._turn_ends = False
        for connection in self._connections:
            connection.channel.flush()
        waiting, self._waiting = self._waiting, []
        for acknowledge in waiting:
            try:
                acknowledge()
            except Exception:
                _logger.exception("BUG: a write to `shared` could not be acknowledged")
        for connection in self._connections:
            connection.channel.flush()

    def _plan_sweep(self, instant: float) -> None:
        """Sweep expired entries at this instant, or earlier."""
        loop = asyncio.get_running_loop()
        when = loop.time() + max(instant - time.monotonic(), SWEEP_INTERVAL)
        if self._sweep is None or self._sweep.when() > when:
            self.close()
            self._sweep = loop.call_at(when, self._expire)

    def _expire(self) -> None:
        self._sweep = None
        self.store.expire(time.monotonic())
        self.publish()
        self._plan_next_sweep()

    def _plan_next_sweep(self) -> None:
        if self.store.expiring:
            self._plan_sweep(min(self.store.expiring.values()))
