"""Recovery of the shared dictionary from the app workers' copies, after the agent was replaced. Runs in the agent.

An acknowledged write is in the copy of every worker that kept up. Of two copies, the one with the higher version
contains every change of the other; so the copy with the highest version is complete. A worker that connects after the
choice gets the restored table.
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

OTHER_COPIES_TIMEOUT = 1.0  # seconds to wait for the other workers: their loops may be blocked, or they use no sharing
FIRST_COPY_TIMEOUT = 3.0  # seconds to wait for the first worker with a copy, if a worker that may have one survives
COPY_TIMEOUT = 5.0  # seconds for a worker to send its copy

_logger = logging.getLogger("eggcluster.shared")


class SharedRecovery:
    """`survivors` are the ids of the workers that may have a copy; `arrive` records each that connects."""

    def __init__(self, survivors: Iterable[int]) -> None:
        self._awaited = set(survivors)
        self._copies: dict[DirectConnection, int] = {}
        self._owners: dict[DirectConnection, int] = {}  # worker ids
        self._news = asyncio.Event()

    def arrive(self, worker_id: int, version: int | None, connection: DirectConnection) -> None:
        """Record a worker that has connected, and the version of its copy; None means that it has no copy."""
        self._awaited.discard(worker_id)
        if version is not None:
            self._copies[connection] = version
            self._owners[connection] = worker_id
        self._news.set()

    def leave(self, connection: DirectConnection) -> None:
        """Record that a connection has closed: its worker, if it lives, connects again, and is awaited until then.

        A worker that hears late of the former agent's end closes the connection that it has made to this one.
        """
        if self._copies.pop(connection, None) is not None:
            self._awaited.add(self._owners.pop(connection))

    async def run(self, store: Store) -> None:
        """Wait for the survivors, within limits, and restore the copy with the highest version."""
        began = asyncio.get_running_loop().time()
        await self._wait_for_copies(began)
        while self._copies:
            connection = max(self._copies, key=lambda connection: self._copies[connection])
            if await self._take(connection, store):
                return
            self.leave(connection)
            await self._wait_for_copies(began)

    async def _wait_for_copies(self, began: float) -> None:
        while self._awaited:
            limit = OTHER_COPIES_TIMEOUT if self._copies else FIRST_COPY_TIMEOUT
            self._news.clear()
            try:
                async with asyncio.timeout_at(began + limit):
                    await self._news.wait()
            except TimeoutError:
                return

    async def _take(self, connection: DirectConnection, store: Store) -> bool:
        try:
            version, entries = read_copy(await connection.request("copy", None, COPY_TIMEOUT))
        except (MessengerError, PackingError) as error:
            _logger.warning("a worker did not send its copy of the shared dictionary: %s", error)
            return False
        store.restore(version, entries)
        _logger.info("restored %d shared keys from a worker's copy", len(entries))
        return True


def read_copy(data: Any) -> tuple[int, list[Change]]:
    """Return the version and the entries of a received copy; raise ValidationError if it is malformed."""
    return convert(data, tuple[int, list[Change]])
