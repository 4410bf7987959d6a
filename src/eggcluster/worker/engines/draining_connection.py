"""What a uvicorn connection is doing, and how it is ended. Runs in the app workers that drain.

The names are those of uvicorn's protocols: its HTTP one has a `cycle` for the latest request and a `scope` for the one
being read, its WebSocket ones, and the door before them, have none and may tell `handshake_complete`.
"""

import asyncio
from typing import Any

from eggcluster.kernel.tcp_info import has_unread, silence_of
from eggcluster.worker.engines.lingering import LingeringTransport
from eggcluster.worker.engines.websocket_upgrade import CLOSE

WEBSOCKET_QUIET = 0.3  # seconds
UNAVAILABLE = b"Service Unavailable"


class DrainingConnection:
    """One connection of a server that drains."""

    def __init__(self, connection: Any, now: float) -> None:
        self._connection = connection
        self._transport: asyncio.Transport = connection.transport
        self._sock = self._transport.get_extra_info("socket")
        self._quiet_since = now
        self._is_websocket = not hasattr(connection, "cycle")
        connection.transport = LingeringTransport(self._transport)
        cycle = self._cycle
        if cycle is not None and not cycle.response_complete:
            cycle.transport = connection.transport
            if not cycle.response_started:
                cycle.default_headers = [*cycle.default_headers, CLOSE]

    @property
    def kind(self) -> str | None:
        """What would be lost if it were closed now: a word for the log, None if that is nothing."""
        if self._is_websocket:
            return "WebSocket"
        if self._is_idle():
            return None
        cycle = self._cycle
        return "stream" if cycle is not None and cycle.response_started and not cycle.response_complete else "request"

    @property
    def path(self) -> str:
        """Of its latest request."""
        return str((getattr(self._connection, "scope", None) or {}).get("path", "?"))

    def end_when_quiet(self, now: float, quiet: float) -> None:
        """Close it if it has nothing to do, and nothing has passed over it for `quiet` seconds.

        A WebSocket's client that is told 1012 knows what was lost, and comes back: a pause between messages will do.
        """
        if self._sock is None:  # its client has gone, and uvicorn hears of it in the next turn of the loop
            return
        if not self._is_idle():
            self._quiet_since = now
            return
        silence = silence_of(self._sock)
        if silence is None:
            silence = now - self._quiet_since
        if silence < (WEBSOCKET_QUIET if self._is_websocket else quiet) or has_unread(self._sock):
            return
        if self._is_websocket:
            self._connection.shutdown()
        else:
            self._transport.close()

    def cut(self) -> None:
        """End it in the middle: a WebSocket with 1012, a stream at once; a request that has no answer yet gets 503
        when its task is cancelled, which is not done here."""
        cycle = self._cycle
        if self._is_websocket:
            self._connection.shutdown()
        elif cycle is None or cycle.response_started:
            self._connection.transport.close()
        else:
            cycle.send_500_response = lambda: _send_503(cycle)  # uvicorn's answer for whoever was cancelled

    def abort(self) -> None:
        """The client takes nothing any more."""
        self._transport.abort()

    @property
    def _cycle(self) -> Any:
        return getattr(self._connection, "cycle", None)

    def _is_idle(self) -> bool:
        if self._is_websocket:
            return bool(getattr(self._connection, "handshake_complete", True))
        if self._has_begun():
            return False
        if self._cycle is None:
            return self._connection.scope is None  # as long as nothing of a first request has come
        return self._cycle.response_complete and self._connection.scope is self._cycle.scope

    def _has_begun(self) -> bool:
        """Whether a part of a request's head has come to h11, which has a `scope` only of whole ones."""
        h11 = getattr(self._connection, "conn", None)
        return h11 is not None and bool(h11.trailing_data[0])


async def _send_503(cycle: Any) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(UNAVAILABLE))]
    await cycle.send({"type": "http.response.start", "status": 503, "headers": headers})
    await cycle.send({"type": "http.response.body", "body": UNAVAILABLE})
