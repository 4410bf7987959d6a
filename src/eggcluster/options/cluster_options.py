"""Owns `ClusterOptions`, the one value that says how a cluster is to be. Travels to every process of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final, Literal, TypeVar

# `Any`, so that `workers` is a plain number to all who read it: only before `parse_options` may it be "auto".
AUTO: Final[Any] = "auto"

Interface = Literal["auto", "asgi", "wsgi"]
LogFormat = Literal["text", "json"]
StickyVia = Literal["bpf", "acceptor"]
StartMode = Literal["process", "thread", "interpreter"]

T = TypeVar("T")


def _remembers_given(cls: type[T]) -> type[T]:
    """Let each instance know which fields its maker named: lower sources fill only the others."""
    init: Callable[..., None] = cls.__init__

    @wraps(init)
    def remembering(self: T, *args: object, **named: object) -> None:
        init(self, *args, **named)
        object.__setattr__(self, "_given", frozenset(named) | ({"app"} if args else set()))

    cls.__init__ = remembering  # type: ignore[method-assign, assignment]
    return cls


class _Memory:
    # A slot beside the fields: packing sends fields only, and equality asks fields only.
    __slots__ = ("_given",)
    _given: frozenset[str]


@_remembers_given
@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterOptions(_Memory):
    """How a cluster is to be; nothing is checked before `parse_options` has made a resolved one of it.

    Resolved means: paths are absolute, and `base_dir`, `name`, `env`, `workers` and `access_log` hold what is
    used. `agent` is None for an empty agent, `port` is None where no TCP port of the cluster's own is
    bound (`uds`, `fd`, `ports`, `listen_fds`). Close timeouts are milliseconds, all other times seconds.
    """

    app: str = field(default="app:app", kw_only=False)
    factory: bool = False
    agent: str | None = None
    no_agent: bool = False
    base_dir: str = ""
    framework: str = "eggcluster"
    workers: int = AUTO

    host: str = "127.0.0.1"
    port: int | None = None
    uds: str | None = None
    fd: int | None = None
    ports: tuple[int, ...] = ()
    sticky: bool = False
    sticky_via: StickyVia = "bpf"
    sticky_hold: float = 5.0
    listen_fds: int = 0  # systemd's sockets, counted by `parse_options`; nobody sets it

    https_key: str | None = None
    https_cert: str | None = None
    https_ca: str | None = None
    https_key_password: str | None = field(default=None, repr=False)
    debug_port: int | None = None

    # As uvicorn's Config has them (0.54), written down here because importing it would cost every process.
    interface: Interface = "auto"
    backlog: int = 2048
    keep_alive_timeout: int = 5
    forwarded_allow_ips: str = "127.0.0.1,::1"
    root_path: str = ""
    limit_concurrency: int | None = None
    headers: tuple[str, ...] = ()
    server_header: bool = True
    ws_max_size: int = 16 * 1024 * 1024

    access_log: bool | None = None
    log_format: LogFormat = "text"
    log_config: str | None = None
    log_level: str = "INFO"
    master_log_level: str = "INFO"
    agent_log_level: str = "INFO"
    app_log_level: str = "INFO"

    start_mode: StartMode = "process"
    env: str = "prod"
    require: tuple[str, ...] = ()
    pid_file: str | None = None
    name: str = ""
    daemon: bool = False
    strict: bool = False

    app_close_timeout: int = 5000
    agent_close_timeout: int = 5000
    close_timeout: int = 15000
    app_start_timeout: float = 60.0
    agent_start_timeout: float = 60.0
    worker_timeout: float = 30.0
    agent_timeout: float = 30.0

    max_requests: int = 0
    max_lifetime: float = 0.0
    max_rss: int = 0

    max_message_bytes: int = 16 * 1024 * 1024
    max_queue_bytes: int = 64 * 1024 * 1024

    @property
    def given(self) -> frozenset[str]:
        """The fields that were named; when resolved, those that any source named. Empty after a journey."""
        return getattr(self, "_given", frozenset())

    def remembering(self, given: frozenset[str]) -> "ClusterOptions":
        """Itself, with these fields as those that were named. For `parse_options` alone."""
        object.__setattr__(self, "_given", given)
        return self


def default_of(name: str) -> Any:
    """What this field holds if nobody names it."""
    return ClusterOptions.__dataclass_fields__[name].default
