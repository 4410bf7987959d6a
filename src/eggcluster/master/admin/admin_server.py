"""The admin port's server: the cluster's own HTTP engine, with the pages of the master. Runs in the master."""

import asyncio
import os
import socket
from typing import Any

from eggcluster.errors import OptionsError
from eggcluster.http.asgi import AsgiExchange
from eggcluster.http.head import Limits
from eggcluster.http.http_settings import HttpSettings
from eggcluster.http.server import HttpServer
from eggcluster.master.admin.admin_app import AdminApp, Page
from eggcluster.master.admin.admin_connection import AdminConnection
from eggcluster.master.listening.binding import bind_tcp, bind_uds
from eggcluster.master.listening.listeners import unlink_own
from eggcluster.options.admin_address import AdminAddress
from eggcluster.wording import shown

BACKLOG = 64
UDS_MODE = 0o600  # another user could read the status, which names paths and the environment
SETTINGS = HttpSettings(
    limits=Limits(max_header_bytes=16 * 1024, max_headers=64, max_body_bytes=4096),
    body_timeout=5.0,
    write_timeout=10.0,
    keep_alive_timeout=75.0,  # longer than most scrapers' interval
    trusted_proxies="",
    server_header=False,
)


class AdminServer:
    """Listens from `open` to `close`. What a client sends ends its own connection at most."""

    def __init__(self, address: AdminAddress, sock: socket.socket) -> None:
        self._address = address
        self._sock = sock
        self._inode = os.stat(address.path).st_ino if address.path else 0
        self._http: HttpServer | None = None
        self._listener: asyncio.AbstractServer | None = None

    @classmethod
    async def open(cls, address: AdminAddress, pages: dict[str, Page], token: str | None) -> "AdminServer":
        """Begin to answer at `address`; OptionsError if it cannot be bound."""
        server = cls(address, _listen(address))
        server._http = http = HttpServer(AdminApp(pages, token), AsgiExchange, SETTINGS, {})
        loop = asyncio.get_running_loop()

        def connection() -> AdminConnection:
            return AdminConnection(http)

        make: Any = loop.create_unix_server if address.path else loop.create_server
        server._listener = await make(connection, sock=server._sock, backlog=BACKLOG)
        return server

    @property
    def address(self) -> AdminAddress:
        """The address in use: for port 0, with the port that the kernel has chosen."""
        return self._address if self._address.path else self._address._replace(port=self._sock.getsockname()[1])

    def close(self) -> None:
        """Stop listening, and end all connections."""
        if self._listener is not None:
            self._listener.close()
        if self._http is not None:
            for connection in list(self._http.connections):
                connection.abort()
            self._http.close()
        self._sock.close()
        if self._address.path:
            unlink_own(self._address.path, self._inode)


def _listen(address: AdminAddress) -> socket.socket:
    if address.path:
        return bind_uds(address.path, UDS_MODE, option="admin")
    try:
        sock = bind_tcp(address.host, address.port)
    except (socket.gaierror, UnicodeError) as error:
        raise OptionsError(f"admin: {shown(address.host)} is not an address of this machine ({error})") from None
    except OSError as error:
        raise OptionsError(_refused(address, error)) from None
    try:
        sock.listen(BACKLOG)  # a port that another one has bound before is refused here, perhaps, and not earlier
    except OSError as error:
        sock.close()
        raise OptionsError(_refused(address, error)) from None
    return sock


def _refused(address: AdminAddress, error: OSError) -> str:
    return f"admin: {address} cannot be bound: {error.strerror or error}"
