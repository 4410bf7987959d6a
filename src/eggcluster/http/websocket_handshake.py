"""The opening handshake of a WebSocket (RFC 6455, 4.2), and its protocol. Pure; loaded for a worker's first upgrade.

This module and the ones that it imports cost 60 ms of CPU and 3 MB of memory: nothing else imports websockets.
"""

import logging
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, cast

from eggcluster.http.head import RequestHead
from eggcluster.http.websocket_library import import_library

if TYPE_CHECKING:
    from websockets.datastructures import Headers as Fields
    from websockets.exceptions import InvalidHandshake
    from websockets.extensions.permessage_deflate import enable_server_permessage_deflate
    from websockets.http11 import Request, Response
    from websockets.server import ServerProtocol
else:
    _library = import_library()
    Fields = import_module(f"{_library}.datastructures").Headers
    InvalidHandshake = import_module(f"{_library}.exceptions").InvalidHandshake
    enable_server_permessage_deflate = import_module(
        f"{_library}.extensions.permessage_deflate"
    ).enable_server_permessage_deflate
    Request, Response = (getattr(import_module(f"{_library}.http11"), name) for name in ("Request", "Response"))
    ServerProtocol = import_module(f"{_library}.server").ServerProtocol

_logger = logging.getLogger("eggcluster.http.websockets")
_logger.setLevel(logging.WARNING)  # the library logs each opening and each end at INFO

Headers = list[tuple[bytes, bytes]]

_NAMES = (b"connection", b"upgrade", b"origin")
_EXTENSIONS = enable_server_permessage_deflate(None)
_VERSION = (b"sec-websocket-version", b"13")  # a client with another one is told, RFC 6455, 4.2.2


class Handshake:
    """What the client's request has come to: `status` is 101 if it can be accepted.

    Otherwise `headers` and `body` are those of a refusal. `protocol` reads and makes the frames. A message may have
    `max_size` bytes, unpacked; 0: no bound.
    """

    def __init__(self, head: RequestHead, max_size: int) -> None:
        self.protocol = ServerProtocol(extensions=_EXTENSIONS, max_size=max_size or None, logger=_logger)
        response = self._response(head)
        self.status = response.status_code
        self.body = bytes(response.body)
        fields = response.headers.raw_items()
        self.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        if self.status != 101:
            self.headers.append(_VERSION)

    def _response(self, head: RequestHead) -> Response:
        """Feed the request to the protocol, which reads frames only behind one."""
        try:
            self.protocol.receive_data(as_request(head).serialize())
            requests = self.protocol.events_received()
            if requests:
                return self.protocol.accept(cast(Request, requests[0]))
            reason = "a field of the handshake is too long"
        except InvalidHandshake as error:
            reason = str(error)
        return self.protocol.reject(400, f"Failed to open a WebSocket connection: {reason}.\n")

    def accept(self, headers: Iterable[tuple[bytes, bytes]], subprotocol: str | None) -> Headers:
        """Let frames pass; return the headers of the 101 response, with the application's `headers`.

        RuntimeError for a header of the handshake itself among them.
        """
        chosen = [header for header in self.headers if header[0] != b"date"]
        if subprotocol:
            chosen.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        for name, value in headers:
            if name.lower().startswith(b"sec-websocket-"):
                raise RuntimeError(f"the server sets the header {name!r}; `subprotocol` chooses a subprotocol")
            if name.lower() not in (b"upgrade", b"content-length"):  # of which a 101 response has one, and none
                chosen.append((name, value))
        self.protocol.send_response(Response(101, "Switching Protocols", Fields()))
        self.protocol.data_to_send()  # the response as bytes, which the caller makes
        return chosen


def as_request(head: RequestHead) -> Request:
    """Return a request with the fields that the handshake is about. InvalidHandshake if one has a bad value."""
    fields = Fields()
    for name, value in head.headers:
        if name in _NAMES or name.startswith(b"sec-websocket-"):
            fields[name.decode("ascii")] = value.decode("latin-1")
    return Request("/", fields)  # the rules let only a GET of HTTP/1.1 ask for an upgrade
