"""Requests whose responses say which keys live in this worker. Runs in the app workers, with `--sticky-by` a key."""

from typing import Any

from eggcluster.http.asgi import AsgiExchange
from eggcluster.http.exchange import Exchange, Headers
from eggcluster.http.head import RequestHead
from eggcluster.http.keyed_connection import KeyedConnection
from eggcluster.http.websocket import WebSocketExchange
from eggcluster.http.websocket_connection import WebSocketConnection
from eggcluster.http.wsgi import WsgiExchange


class _Learning(Exchange):
    """Learns the keys before the response leaves: the very next request finds them, at any worker."""

    connection: KeyedConnection

    def start(self, status: int, headers: Headers) -> None:
        own = headers if isinstance(headers, list) else list(headers)
        super().start(status, self.connection.router.learn(self.head, self.scheme, own))


class KeyedAsgiExchange(_Learning, AsgiExchange):
    """As AsgiExchange."""


class KeyedWsgiExchange(_Learning, WsgiExchange):
    """As WsgiExchange."""


class KeyedWebSocketExchange(_Learning, WebSocketExchange):
    """As WebSocketExchange."""

    def _accept(self, websocket: WebSocketConnection, message: dict[str, Any]) -> None:
        given = list(message.get("headers") or ())
        headers = self.connection.router.learn(self.head, self.scheme, given)
        super()._accept(websocket, {**message, "headers": headers})


def keyed_asgi_exchange(connection: KeyedConnection, head: RequestHead) -> AsgiExchange:
    """Return what serves the request: a WebSocket if it asks for one. The server's `new_exchange`."""
    kind = KeyedWebSocketExchange if head.upgrade == "websocket" else KeyedAsgiExchange
    return kind(connection, head)
