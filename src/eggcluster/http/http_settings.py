"""What an HTTP server is told: limits, timeouts, headers. Pure."""

from dataclasses import dataclass, field

from eggcluster.http.forwarded import DEFAULT
from eggcluster.http.head import Limits


@dataclass(frozen=True)
class HttpSettings:
    """The settings of all connections of one server. All times are seconds; 0 switches a timeout off.

    `headers` are added to each response. `root_path` is the prefix under which a proxy mounts the application.
    """

    limits: Limits = field(default_factory=Limits)
    header_timeout: float = 10.0  # from a request's first byte, or the connection's start, to the end of its head
    body_timeout: float = 60.0  # between two reads of a body
    write_timeout: float = 60.0  # without the client taking a byte
    keep_alive_timeout: float = 5.0  # between a response and the next request
    request_timeout: float = 0.0  # of the application, for a response
    threads: int = 8
    limit_concurrency: int = 0  # connections and running requests; more are answered with 503
    root_path: str = ""
    trusted_proxies: str = DEFAULT  # as TrustedProxies.parse reads it
    server_header: bool = True
    headers: tuple[tuple[bytes, bytes], ...] = ()
    ws_max_size: int = 16 * 1024 * 1024
    ws_ping_interval: float = 20.0
    ws_ping_timeout: float = 20.0
