"""uvicorn's server, made from our options. Runs in the app workers."""

import ssl  # uvicorn's Config has imported it anyway
import sys
from collections.abc import Callable
from typing import Any, Literal

from uvicorn.config import Config
from uvicorn.server import Server

from eggcluster.options import ResolvedOptions
from eggcluster.worker.engines.addresses import use_known_addresses
from eggcluster.worker.engines.websocket_upgrade import websocket_protocol


def uvicorn_server(app: Callable[..., Any], options: ResolvedOptions, *, tls: bool) -> Server:
    """A server that is ready but for its listeners: who accepts, and who starts the application, is our business."""
    config = Config(
        app,
        http=_http_parser(),
        ws=websocket_protocol,  # type: ignore[arg-type]  # it calls it and wants no more
        ws_max_size=options.ws_max_size,
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=bool(options.access_log),
        workers=1,
        server_header=options.server_header,
        headers=[_header(header) for header in options.headers],
        forwarded_allow_ips=options.forwarded_allow_ips,
        root_path=options.root_path,
        limit_concurrency=options.limit_concurrency,
        backlog=options.backlog,
        timeout_keep_alive=options.keep_alive_timeout,
        ssl_keyfile=options.https_key if tls else None,
        ssl_certfile=options.https_cert if tls else None,
        ssl_keyfile_password=options.https_key_password if tls else None,
        ssl_ca_certs=options.https_ca if tls else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if tls and options.https_ca else ssl.CERT_NONE,
    )
    config.load()
    use_known_addresses(sys.modules[config.http_protocol_class.__module__])
    return Server(config)


def _http_parser() -> Literal["httptools", "h11"]:
    """The fast one in C, where it can be loaded: a subinterpreter has the other one."""
    try:
        import httptools  # noqa: F401
    except ImportError:
        return "h11"
    return "httptools"


def _header(header: str) -> tuple[str, str]:
    name, _, value = header.partition(":")
    return name.strip(), value.strip()
