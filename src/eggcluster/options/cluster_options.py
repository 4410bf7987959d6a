"""The options of a cluster as given (`ClusterOptions`) and as resolved (`ResolvedOptions`). Runs in all processes."""

from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, TypeVar

from eggcluster.model.access_log_format import DEFAULT_FORMAT

# `Any`, so that the type checker takes `workers` for a plain number. It can be "auto" only before `parse_options`.
AUTO: Final[Any] = "auto"

Interface = Literal["auto", "asgi", "wsgi"]
LogFormat = Literal["text", "json"]
StickyVia = Literal["bpf", "acceptor"]
StartMode = Literal["process", "thread", "interpreter"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Default:
    """The content of a field that was not given: it holds the field's default."""

    value: Any

    def __repr__(self) -> str:
        return f"<default: {self.value!r}>"

    def __bool__(self) -> bool:
        return bool(self.value)


def _default(value: T) -> T:
    # The type checker sees the field's own type. Only `given_fields` and `ResolvedOptions` handle the stand-in.
    return Default(value)  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterOptions:
    """The options that a program gives. A field that is not given holds a `Default`: lower sources (the environment, a
    file) may fill it.

    Nothing is checked before `parse_options` turns them into `ResolvedOptions`. Close and drain timeouts are in
    milliseconds, all other times are in seconds.
    """

    app: str = field(default=_default("app:app"), kw_only=False)
    factory: bool = _default(False)
    agent: str | None = _default(None)
    no_agent: bool = _default(False)
    base_dir: str = _default("")
    framework: str = _default("eggcluster")
    workers: int = _default(AUTO)

    host: str = _default("127.0.0.1")
    port: int | None = _default(None)
    uds: str | None = _default(None)
    uds_mode: int | None = _default(None)
    fd: int | None = _default(None)
    ports: tuple[int, ...] = _default(())
    sticky: bool = _default(False)
    sticky_by: tuple[str, ...] = _default(())
    sticky_via: StickyVia = _default("bpf")
    sticky_hold: float = _default(5.0)
    listen_fds: int = _default(0)  # the number of systemd's sockets, counted by `parse_options`; not an option

    https_key: str | None = _default(None)
    https_cert: str | None = _default(None)
    https_ca: str | None = _default(None)
    https_key_password: str | None = field(default=_default(None), repr=False)
    debug_port: int | None = _default(None)

    interface: Interface = _default("auto")
    backlog: int = _default(2048)
    threads: int = _default(8)
    header_timeout: float = _default(10.0)
    body_timeout: float = _default(60.0)
    write_timeout: float = _default(60.0)
    request_timeout: float = _default(0.0)
    keep_alive_timeout: int = _default(5)
    max_header_bytes: int = _default(64 * 1024)
    max_headers: int = _default(256)
    max_body_bytes: int = _default(0)
    forwarded_allow_ips: str = _default("127.0.0.1,::1,unix")
    proxy_protocol: bool = _default(False)
    root_path: str = _default("")
    limit_concurrency: int | None = _default(None)
    headers: tuple[str, ...] = _default(())
    server_header: bool = _default(True)
    ws_max_size: int = _default(16 * 1024 * 1024)
    ws_ping_interval: float = _default(20.0)
    ws_ping_timeout: float = _default(20.0)

    access_log: bool | None = _default(None)
    access_log_format: str = _default(DEFAULT_FORMAT)
    log_format: LogFormat = _default("text")
    log_config: str | None = _default(None)
    log_level: str = _default("INFO")
    master_log_level: str = _default("INFO")
    agent_log_level: str = _default("INFO")
    app_log_level: str = _default("INFO")

    start_mode: StartMode = _default("process")
    env: str = _default("prod")
    require: tuple[str, ...] = _default(())
    preload: bool = _default(False)
    preload_threads: tuple[str, ...] = _default(())
    reload: bool | None = _default(None)
    reload_dir: tuple[str, ...] = _default(())
    reload_include: tuple[str, ...] = _default(())
    pid_file: str | None = _default(None)
    secret_file: str | None = _default(None)
    name: str = _default("")
    daemon: bool = _default(False)
    strict: bool = _default(False)

    app_close_timeout: int = _default(5000)
    agent_close_timeout: int = _default(5000)
    close_timeout: int = _default(15000)
    drain_timeout: int | None = _default(None)
    max_draining: int = _default(0)
    app_start_timeout: float = _default(60.0)
    agent_start_timeout: float = _default(60.0)
    worker_timeout: float = _default(30.0)
    agent_timeout: float = _default(30.0)

    max_requests: int = _default(0)
    max_lifetime: float = _default(0.0)
    max_rss: int = _default(0)

    admin: str | None = _default(None)
    admin_token_file: str | None = _default(None)
    ready_workers: int = _default(1)
    shutdown_delay: float = _default(0.0)

    max_message_bytes: int = _default(16 * 1024 * 1024)
    max_queue_bytes: int = _default(64 * 1024 * 1024)

    def __repr__(self) -> str:
        hidden = {each.name for each in fields(self) if not each.repr}
        given = (f"{name}={value!r}" for name, value in given_fields(self).items() if name not in hidden)
        return f"{type(self).__name__}({', '.join(given)})"


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedOptions(ClusterOptions):
    """The options that are in force: every field has its value. `parse_options` makes them, and every process of the
    cluster receives them.

    Paths are absolute; `base_dir`, `name`, `env`, `workers`, `reload` and `access_log` hold what is used. `agent` is
    None for an empty agent. `port` is None if the cluster binds no TCP port of its own (`uds`, `fd`, `ports`,
    `listen_fds`). `named` holds the fields that a source named: resolving the options again keeps them. `derived` holds
    the values that followed from others, such as the port: they give way to a replaced option that excludes them.
    `names` holds the name that the source uses for a field, where that is another one: `--port`, `PORT`.

    `working_dir` is the directory in which workers start, "" for the master's, and `interpreter` the Python of worker
    processes, "" for the master's. They and all paths are as the user sees them: each start of a worker resolves their
    links anew.
    """

    working_dir: str = field(default="", compare=False, repr=False)
    interpreter: str = field(default="", compare=False, repr=False)
    named: tuple[str, ...] = field(default=(), compare=False, repr=False)
    derived: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    names: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, value in _values(self):
            if isinstance(value, Default):
                object.__setattr__(self, name, value.value)

    def name_of(self, field: str) -> str:
        """Return the name of a field for an error line, as its source writes it."""
        return self.names.get(field, field)


def given_fields(options: ClusterOptions) -> dict[str, Any]:
    """Return the values that were given, by field. Of `ResolvedOptions`: the values that a source named, and those that
    were replaced since."""
    if isinstance(options, ResolvedOptions):
        assumed = {name: default_of(name) for name in ClusterOptions.__dataclass_fields__} | options.derived
        values = ((name, getattr(options, name)) for name in assumed)
        return {name: value for name, value in values if name in options.named or value != assumed[name]}
    return {name: value for name, value in _values(options) if not isinstance(value, Default)}


def default_of(name: str) -> Any:
    """Return the value that a field has if it is not given."""
    return ClusterOptions.__dataclass_fields__[name].default.value


def _values(options: ClusterOptions) -> list[tuple[str, Any]]:
    return [(each.name, getattr(options, each.name)) for each in fields(options)]
