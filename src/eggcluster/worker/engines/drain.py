"""The drain: how a worker's connections come to their ends. Runs in the app workers.

A client that keeps its connection may be sending its next request in the moment in which the server closes it. It
cannot know whether that one was served (RFC 9112, 9.3.1), so each such close is a failed request for somebody. But a
connection whose answer said `close` is closed without that risk. So each one is kept for one more answer, which says
so, and only those that have long been silent are closed without. HAProxy has the same as idle-close-on-response.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from uvicorn.server import Server

from eggcluster.worker.engines.cancelled_requests import log_no_cancellations
from eggcluster.worker.engines.connection_intake import ConnectionIntake
from eggcluster.worker.engines.draining_connection import DrainingConnection
from eggcluster.worker.engines.websocket_upgrade import CLOSE

QUIET = 1.3  # seconds; more than most clients' pauses, and no round number, at which many have their next request
QUIET_FOR_EACH = 0.1
LOOK = 0.02  # seconds between two looks at the connections: uvicorn has no event for their ends
IDLENESS = 20  # times as long as a look took is waited before the next one: thousands of connections are not free
LAST_WORDS = 0.25  # seconds of the limit that are kept for what is cut: close frames, clean-up in the application
NAMED = 3  # paths that the log line about a cut names of each kind

_logger = logging.getLogger("eggcluster.worker")


class Drain:
    """Ends the connections of some uvicorn servers that accept nothing more, `limit` seconds from now at the latest."""

    def __init__(self, intakes: Sequence[ConnectionIntake], limit: float) -> None:
        self._intakes = intakes
        self._servers = [intake.server for intake in intakes]
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._cut_at = self._began + limit - min(LAST_WORDS, limit / 4)
        self._end = self._began + limit
        self._farewells: dict[Any, DrainingConnection] = {}

    async def run(self) -> None:
        for server in self._servers:
            server.should_exit = True  # some libraries look at it to end their streams
            await announce_end(server)
        while self._is_busy() and self._loop.time() < self._cut_at:
            await self._look_around(self._cut_at)
        if self._is_busy():
            await self._cut()
        for intake in self._intakes:
            intake.close()

    # -- while there is time -------------------------------------------------------------------------------

    async def _look_around(self, deadline: float) -> None:
        """Close what has become quiet; wait a moment, until `deadline` at the latest."""
        began = self._loop.time()
        present = list(self._present())
        quiet = quiet_needed(sum(farewell.kind is None for farewell in present))
        for farewell in present:
            farewell.end_when_quiet(began, quiet)
        pause = max(LOOK, IDLENESS * (self._loop.time() - began))
        await asyncio.sleep(max(0.0, min(pause, deadline - self._loop.time())))

    def _present(self) -> Iterator[DrainingConnection]:
        """A farewell for each connection that is there: some still come, out of their TLS handshakes or taken over."""
        now, before, self._farewells = self._loop.time(), self._farewells, {}
        for server in self._servers:
            for connection in list(server.server_state.connections):
                farewell = before.get(connection) or DrainingConnection(connection, now)
                self._farewells[connection] = farewell
                yield farewell

    def _is_busy(self) -> bool:
        states = [server.server_state for server in self._servers]
        return any(intake.is_expecting for intake in self._intakes) or any(
            state.connections or state.tasks for state in states
        )

    # -- when there is none left ---------------------------------------------------------------------------

    async def _cut(self) -> None:
        tasks = {task for server in self._servers for task in server.server_state.tasks}
        farewells = list(self._present())
        if census := _census(farewells, len(tasks)):
            _logger.warning("the drain took longer than %.1fs: cut %s", self._loop.time() - self._began, census)
        log_no_cancellations()  # ours is one line for all
        for farewell in farewells:
            farewell.cut()
        for task in tasks:
            task.cancel()
        while self._is_busy() and self._loop.time() < self._end:
            await asyncio.sleep(LOOK)
        for farewell in self._present():
            farewell.abort()


def _census(farewells: Sequence[DrainingConnection], tasks: int) -> str:
    """`2 streams (/events, /feed), 1 WebSocket (/chat)`; empty if nothing is lost."""
    paths: dict[str, Counter[str]] = {}
    for farewell in farewells:
        if farewell.kind is not None:
            paths.setdefault(farewell.kind, Counter())[farewell.path] += 1
    parts = [_count(kind, found.total(), [path for path, _ in found.most_common()]) for kind, found in paths.items()]
    after_response = tasks - sum(found.total() for found in paths.values())
    if after_response > 0:
        parts.append(_count("background task", after_response, []))
    return ", ".join(parts)


def quiet_needed(idle: int) -> float:
    """Seconds for which a connection must have been silent to be closed without a word, where `idle` of them are.

    Who has been silent for q seconds speaks up in the next millisecond, before it knows of the close, with a chance of
    about 1 in 1000 q. With a tenth of a second for each, all of them together lose a request in one of a hundred
    drains at most. A few browsers do not hold up a worker's end, a crowd that comes back regularly does.
    """
    return max(QUIET, idle * QUIET_FOR_EACH)


async def announce_end(server: Server) -> None:
    """Say `close` with each response from now on; the date goes on."""
    if CLOSE not in server.config.encoded_headers:
        server.config.encoded_headers.append(CLOSE)
    await server.on_tick(0)


def _count(kind: str, number: int, paths: list[str]) -> str:
    more = [*paths[:NAMED], *(["…"] if len(paths) > NAMED else [])]
    return f"{number} {kind}{'' if number == 1 else 's'}" + (f" ({', '.join(more)})" if more else "")
