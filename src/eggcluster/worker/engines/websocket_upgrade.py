"""Where connections become WebSockets: uvicorn's protocol, imported for the first of them. Runs in the app workers.

The import is 60 ms of CPU and 3 MB of memory. A worker whose clients never ask for a WebSocket does not pay it; in one
whose clients do, a thread imports while the event loop goes on answering: a fresh worker gets its first upgrade
in the middle of traffic, and everybody else would wait for it.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.server import ServerState

CLOSE = (b"connection", b"close")  # what a closing server says with each answer, but not with an upgrade

_protocol: Callable[..., asyncio.Protocol] | None = None


def websocket_protocol(server_state: ServerState, **more: Any) -> asyncio.Protocol:
    """What uvicorn hands an upgrading connection to."""
    if _protocol is None:
        return WebSocketUpgrade(server_state, more)
    return _open(server_state, more)


def _open(server_state: ServerState, more: dict[str, Any]) -> asyncio.Protocol:
    assert _protocol is not None
    protocol = _protocol(server_state=server_state, **more)
    headers = [header for header in server_state.default_headers if header != CLOSE]
    cast(Any, protocol).default_headers = headers
    return protocol


def _import() -> None:
    global _protocol
    from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

    _protocol = AutoWebSocketsProtocol


class WebSocketUpgrade(asyncio.Protocol):
    """Keeps a connection waiting until the protocol is there; the client's bytes stay in their order."""

    handshake_complete = False  # as uvicorn's protocols say it

    def __init__(self, server_state: ServerState, more: dict[str, Any]) -> None:
        self._server_state = server_state
        self._more = more
        self._received: list[bytes] = []
        self._is_lost = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()
        connections = cast(set[Any], self._server_state.connections)
        connections.add(self)
        loop = asyncio.get_running_loop()
        imported = loop.run_in_executor(None, _import)
        imported.add_done_callback(lambda _: self._let_in())

    def data_received(self, data: bytes) -> None:
        self._received.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        cast(set[Any], self._server_state.connections).discard(self)

    def shutdown(self) -> None:
        """uvicorn closes its connections with it: whoever is still before the door is sent away."""
        assert self.transport is not None
        self.transport.close()

    def _let_in(self) -> None:
        assert self.transport is not None
        if self._is_lost or self.transport.is_closing():
            return
        cast(set[Any], self._server_state.connections).discard(self)
        protocol = _open(self._server_state, self._more)
        protocol.connection_made(self.transport)
        for data in self._received:
            protocol.data_received(data)
        self.transport.set_protocol(protocol)
        self.transport.resume_reading()
