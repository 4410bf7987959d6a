"""The drain: how a server's connections come to their ends. Runs in the app workers that close.

A client that keeps its connection may be sending its next request in the moment in which the server closes it. It
cannot know whether that one was served (RFC 9112, 9.3.1), so each such close is a failed request for a client. But a
connection whose response said `close` is closed without that risk. So each one is kept for one more response, which
says so, and only those that have long been silent are closed without. HAProxy has the same as idle-close-on-response.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from eggcluster.http.intake import Intake
from eggcluster.http.server import Connection, HttpServer

QUIET = 1.3  # seconds; more than most clients' pauses, and no round number, at which many have their next request
QUIET_PER_CONNECTION = 0.1
CHECK_INTERVAL = 0.02  # seconds between two checks of all connections
CHECK_SHARE = 20  # times as long as a check took is waited before the next one: thousands of connections are not free
CUT_RESERVE = 0.25  # seconds of the limit that are kept for what is cut: close frames, clean-up in the application
FAILED = "ending a connection failed"
NAMED = 3  # paths that the log line about a cut names of each kind

_logger = logging.getLogger("eggcluster.worker")


class Drain:
    """Ends the connections of a server that accepts nothing more, `limit` seconds from now at the latest."""

    def __init__(self, server: HttpServer, intake: Intake, limit: float) -> None:
        self._server = server
        self._intake = intake
        self._loop = server.loop
        self._began = self._loop.time()
        self._cut_at = self._began + limit - min(CUT_RESERVE, limit / 4)
        self._end = self._began + limit
        self._broken: set[Connection] = set()

    async def run(self) -> None:
        """Return when no connection and no request is left, or the limit is over. Never raises."""
        self._server.is_draining = self._server.should_exit = True
        while self._is_busy() and self._loop.time() < self._cut_at:
            await self._check()
        if self._is_busy():
            await self._cut()
        self._intake.close()
        self._server.close()

    def _is_busy(self) -> bool:
        return self._server.is_busy or self._intake.is_expecting

    async def _check(self) -> None:
        """Close what has become quiet; wait a moment."""
        began = self._loop.time()
        present = self._present()
        quiet = quiet_needed(len(present) - len(self._activities(present)))
        self._each_connection(present, lambda connection: connection.end_when_quiet(quiet))
        pause = max(CHECK_INTERVAL, CHECK_SHARE * (self._loop.time() - began))
        await asyncio.sleep(max(0.0, min(pause, self._cut_at - self._loop.time())))

    async def _cut(self) -> None:
        present = self._present()
        if census := take_census(self._activities(present), len(self._server.running)):
            _logger.warning("the drain took longer than %.1fs: cut %s", self._loop.time() - self._began, census)
        self._each_connection(present, lambda connection: connection.cut())
        self._server.for_each(list(self._server.running), lambda exchange: exchange.cancel(), FAILED)
        while self._is_busy() and self._loop.time() < self._end:
            await asyncio.sleep(CHECK_INTERVAL)
        self._server.for_each(list(self._server.connections), lambda connection: connection.abort(), FAILED)

    def _present(self) -> list[Connection]:
        return [connection for connection in self._server.connections if connection not in self._broken]

    def _activities(self, present: Sequence[Connection]) -> list[tuple[str, str]]:
        """Return what each connection that is not idle does, and its path."""
        found: list[tuple[str, str]] = []

        def ask(connection: Connection) -> None:
            if (activity := connection.activity) is not None:
                found.append((activity, connection.path))

        self._each_connection(present, ask)
        return found

    def _each_connection(self, members: Iterable[Connection], act: Callable[[Connection], None]) -> None:
        """Do it to each connection. One that raises is aborted, and not asked again: the log says so once."""
        broken = self._server.for_each(members, act, FAILED)
        self._broken.update(broken)
        self._server.for_each(broken, lambda connection: connection.abort(), FAILED)


def take_census(activities: Iterable[tuple[str, str]], running: int) -> str:
    """Return what is lost, as in `2 streams (/events, /feed), 1 WebSocket (/chat)`; empty if that is nothing.

    `activities` are those of the connections, each with its path; `running` is the number of requests that are served.
    """
    paths: dict[str, Counter[str]] = {}
    for activity, path in activities:
        paths.setdefault(activity, Counter())[path] += 1
    parts = [_count(kind, found.total(), [path for path, _ in found.most_common()]) for kind, found in paths.items()]
    after_response = running - sum(found.total() for found in paths.values())
    if after_response > 0:
        parts.append(_count("background task", after_response, []))
    return ", ".join(parts)


def quiet_needed(idle: int) -> float:
    """Return the seconds for which a connection must have been silent to be closed without a word, if `idle` are idle.

    A client that has been silent for q seconds sends something in the next millisecond, before it knows of the close,
    with a chance of about 1 in 1000 q. With a tenth of a second for each connection, all of them together lose a
    request in one of a hundred drains at most. A few browsers do not hold up a worker's end; a crowd of clients that
    come back regularly does.
    """
    return max(QUIET, idle * QUIET_PER_CONNECTION)


def _count(kind: str, number: int, paths: list[str]) -> str:
    more = [*paths[:NAMED], *(["…"] if len(paths) > NAMED else [])]
    return f"{number} {kind}{'' if number == 1 else 's'}" + (f" ({', '.join(more)})" if more else "")
