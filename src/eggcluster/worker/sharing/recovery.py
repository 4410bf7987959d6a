"""Getting back what was shared, from the app workers' copies, after the agent was replaced. Runs in the agent.

An acknowledged write is in the copy of every worker that kept up, and of two copies the one with the higher version
has seen everything that is in the other: so one copy is the whole truth, the one that has seen the most. A worker that
comes when the choice has been made takes over what the others had.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from eggcluster.errors import MessengerError
from eggcluster.ipc.direct_connection import DirectConnection
from eggcluster.model.shared.shared_store import Store
from eggcluster.model.shared.shared_table import Change
from eggcluster.packing import PackingError, convert

STRAGGLERS = 1.0  # seconds that workers with a copy may wait for the others; their loops are blocked, or they share not
FIRST_COPY_TIMEOUT = 3.0  # seconds in which a worker with a copy has to come, if one that may have it is left
ANSWER = 5.0  # seconds to hand over a copy

_logger = logging.getLogger("eggcluster.shared")


class SharedRecovery:
    """`survivors` are the ids of the workers that may have a copy; `arrive` records each that comes."""

    def __init__(self, survivors: Iterable[int]) -> None:
        self._awaited = set(survivors)
        self._copies: dict[DirectConnection, int] = {}
        self._news = asyncio.Event()

    def arrive(self, worker_id: int, version: int | None, connection: DirectConnection) -> None:
        """A worker has come; its copy has this version. None: it has no copy."""
        self._awaited.discard(worker_id)
        if version is not None:
            self._copies[connection] = version
        self._news.set()

    async def run(self, store: Store) -> None:
        """Wait for the survivors, within limits, and restore what the best of them remembers."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self._awaited:
            limit = STRAGGLERS if self._copies else FIRST_COPY_TIMEOUT
            self._news.clear()
            try:
                async with asyncio.timeout_at(began + limit):
                    await self._news.wait()
            except TimeoutError:
                break
        for connection in sorted(self._copies, key=lambda connection: self._copies[connection], reverse=True):
            if await self._take(connection, store):
                return

    async def _take(self, connection: DirectConnection, store: Store) -> bool:
        try:
            version, entries = read_copy(await connection.request("copy", None, ANSWER))
        except (MessengerError, PackingError) as error:
            _logger.warning("a copy of what is shared was not to be had: %s", error)
            return False
        store.restore(version, entries)
        _logger.info("restored %d shared keys from a worker's copy", len(entries))
        return True


def read_copy(data: Any) -> tuple[int, list[Change]]:
    """A copy as it travels; ValidationError for what is none."""
    return convert(data, tuple[int, list[Change]])
