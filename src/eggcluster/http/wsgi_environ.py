"""The environ of a WSGI request (PEP 3333, RFC 3875). Runs in the threads of an app worker."""

import sys
from typing import Any
from urllib.parse import unquote_to_bytes

from eggcluster.http.connection import HttpConnection
from eggcluster.http.exchange import Exchange
from eggcluster.http.wsgi_files import FileWrapper

_VARIABLES: dict[bytes, str] = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
USUAL_PORTS = {"http": "80", "https": "443"}  # of a Unix socket, which has none
_KNOWN = 1024  # header names that are remembered


def make_environ(exchange: Exchange, body: Any) -> dict[str, Any]:
    """Return what the application is called with; `body` is its `wsgi.input`."""
    connection, head = exchange.connection, exchange.head
    target = head.target.decode("latin-1")
    path, _, query = target.partition("?")
    if "%" in path:
        path = unquote_to_bytes(path).decode("latin-1")
    environ = _common(connection)
    environ["REQUEST_METHOD"] = head.method.decode("ascii")
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = query
    environ["REQUEST_URI"] = environ["RAW_URI"] = target
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if head.version == "1.1" else "HTTP/1.0"
    environ["wsgi.url_scheme"] = exchange.scheme
    if exchange.client is not None:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = exchange.client[0], str(exchange.client[1])
    environ["wsgi.input"] = body
    environ["wsgi.errors"] = sys.stderr
    if connection.has_more_extensions and connection.server.settings.request_timeout:
        environ["eggcluster.timeout"] = exchange.allow
    for name, value in head.headers:
        variable = _VARIABLES.get(name) or _variable(name)
        if variable in environ:
            environ[variable] += ("; " if name == b"cookie" else ",") + value.decode("latin-1")
        elif variable:
            environ[variable] = value.decode("latin-1")
    return environ


def _common(connection: HttpConnection) -> dict[str, Any]:
    """Return a new environ with what all requests of the connection have in common."""
    common: dict[str, Any] | None = connection.environ
    if common is None:
        local = connection.local
        common = connection.environ = {
            "SCRIPT_NAME": connection.server.settings.root_path,
            "SERVER_NAME": local[0] if local else "localhost",  # PEP 3333: never empty, as the port
            "SERVER_PORT": str(local[1]) if local and local[1] is not None else USUAL_PORTS[connection.scheme],
            "REMOTE_ADDR": "",
            "REMOTE_PORT": "",
            "SERVER_SOFTWARE": "eggcluster",
            "wsgi.version": (1, 0),
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            **connection.server.state,
        }
    return common.copy()


def _variable(name: bytes) -> str:
    """Return the CGI variable of a header; none for a name with an underscore, which would be that of another one."""
    variable = "" if b"_" in name else "HTTP_" + name.decode("ascii").upper().replace("-", "_")
    if variable and len(_VARIABLES) < _KNOWN:
        _VARIABLES[name] = variable
    return variable
