"""The table of options: where each can be given, and which values are right. Runs in the process that starts a cluster.

The command's flags and the table in docs/options.md are made from it.
"""

from dataclasses import dataclass

from eggcluster.model.lives.health import MIN_HANG_TIMEOUT
from eggcluster.options.cluster_options import default_of
from eggcluster.options.option_type import (
    OptionType,
    choice,
    log_level,
    many,
    seconds,
    seconds_or_never,
    size,
    start_mode,
    switch,
    text,
    whole,
    whole_or,
)

DAY_MS = 86_400_000
GIB = 1024**3
MODULE = r"(?:[^\W\d]\w*)(?:\.[^\W\d]\w*)*"


@dataclass(frozen=True)
class Option:
    """One row of the table. `flags` are as click takes them; `default` is text for documents, if the field's own value
    does not say enough."""

    field: str
    kind: OptionType
    help: str
    metavar: str = ""
    flags: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    default: str = ""
    in_file: bool = True
    is_path: bool = False
    is_many: bool = False
    is_secret: bool = False

    @property
    def flag(self) -> str:
        """The option's name in an error line, if it came from the command line."""
        long = [flag for flag in self.flags if flag.startswith("--")]
        return long[0].partition("/")[0] if long else self.metavar

    @property
    def is_turned_off(self) -> bool:
        """Whether the flag can only turn the option off."""
        return self.is_switch and self.flag.startswith("--no-") and not self.field.startswith("no_")

    @property
    def is_switch(self) -> bool:
        """Whether the flag takes no value."""
        return self.kind is SWITCH


SWITCH = switch()
MODULE_NAME = text("the name of a module, such as package.module", MODULE)
TARGET = text('module:attribute, for instance "app:app"', rf"{MODULE}:{MODULE}")
HOST = text("a host name or address", r"[^\0-\x20\x7f\ud800-\udfff]+")  # no blanks, no bytes that are not UTF-8
PORT = whole("a port number", 0, 65535)
OWN_PORTS = many("a list of port numbers from 1 to 65535", whole("a port number", 1, 65535), separator=",")
WORKERS = whole_or("auto", whole("a number of workers", 1, 1024))
BYTES = whole("a number of bytes", 1, GIB)
CLOSE_MS = whole("a number of milliseconds", 0, DAY_MS)
PATH = text("the path of a file")
LEVEL = log_level()
HEADER = text("NAME:VALUE", r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, section 5
# Characters that `ps`, a directory name and a shell take without quoting.
CLUSTER_NAME = text("1 to 64 letters, digits, dots, dashes and underscores", r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}")
ENV_NAME = text("a word of letters, digits, dots, dashes and underscores", r"[A-Za-z0-9._-]{1,64}")


def _option(field: str, kind: OptionType, help: str, metavar: str = "", **rest: object) -> Option:
    flags = rest.pop("flags", (f"--{field.replace('_', '-')}",))
    return Option(field, kind, help, metavar, flags=flags, **rest)  # type: ignore[arg-type]


OPTIONS = (
    _option("app", TARGET, "the application", "TARGET", flags=()),
    _option("factory", SWITCH, "TARGET is a callable without parameters that builds the application"),
    _option(
        "agent",
        TARGET,
        "the agent",
        "MODULE:ATTRIBUTE",
        default="`agent:agent` if the base directory has it, else an empty agent",
    ),
    _option("no_agent", SWITCH, "run an empty agent, even if `agent.py` exists"),
    _option(
        "base_dir",
        text("a directory", r"[^\0]*"),
        "the application's directory; modules are looked up there first",
        "DIR",
        default="the current directory",
        in_file=False,
    ),
    _option("framework", MODULE_NAME, "a module that defines `Application` and `Agent`", "MODULE"),
    _option(
        "workers",
        WORKERS,
        "the number of app workers; `auto`: as many as CPU affinity and cgroup quota allow",
        "N",
        flags=("-w", "--workers"),
        env=("EGG_WORKERS", "WEB_CONCURRENCY"),
    ),
    _option(
        "host",
        HOST,
        "the address to listen on",
        "HOST",
        env=("HOST",),
    ),
    _option(
        "port",
        PORT,
        "the port to listen on; 0: any free port",
        "PORT",
        flags=("-p", "--port"),
        env=("PORT",),
        default="7001; 8443 with TLS",
    ),
    _option("uds", PATH, "a Unix socket to listen on, instead of host and port", "PATH", is_path=True),
    _option(
        "fd",
        whole("a file descriptor", 0, 1_048_576),
        "an inherited socket to listen on, instead of host and port",
        "FD",
    ),
    _option("ports", OWN_PORTS, "one port for each app worker, for a balancer in front of them", "PORT,PORT,…"),
    _option(
        "sticky",
        SWITCH,
        "every client keeps its worker, by its address (docs/sticky.md)",
        flags=("--sticky/--no-sticky",),
    ),
    _option(
        "sticky_via",
        choice("bpf", "acceptor"),
        "how a client's worker is found: by a kernel program (bpf), or by the master, which accepts (acceptor)",
        "HOW",
        default="`bpf`; `acceptor` if the kernel has no steering",
    ),
    _option("sticky_hold", seconds(), "seconds that the clients of a dead worker wait for its replacement", "SECONDS"),
    _option("https_key", PATH, "the private key for TLS (PEM)", "FILE", is_path=True),
    _option("https_cert", PATH, "the certificate chain for TLS (PEM)", "FILE", is_path=True),
    _option("https_ca", PATH, "the CA that client certificates must come from (PEM)", "FILE", is_path=True),
    _option(
        "https_key_password",
        text("text"),
        "the key's passphrase; it has no flag, because every user of the machine can read a command line",
        flags=(),
        env=("EGG_HTTPS_KEY_PASSWORD",),
        is_secret=True,
    ),
    _option("debug_port", PORT, "a port for plain HTTP, beside HTTPS", "PORT"),
    _option("interface", choice("auto", "asgi", "wsgi"), "what the application speaks: auto, asgi or wsgi", "KIND"),
    _option("backlog", whole("a number of connections", 1, 65535), "how many connections may wait to be accepted", "N"),
    _option("threads", whole("a number of threads", 1, 1000), "WSGI threads of one app worker", "N"),
    _option(
        "header_timeout",
        seconds_or_never(),
        "seconds for a request's head to arrive, and for a TLS handshake; 0: no limit",
        "SECONDS",
    ),
    _option(
        "body_timeout",
        seconds_or_never(),
        "seconds between two pieces of a request's body; 0: no limit",
        "SECONDS",
    ),
    _option(
        "write_timeout",
        seconds_or_never(),
        "seconds in which a client that reads nothing keeps its connection; 0: no limit",
        "SECONDS",
    ),
    _option(
        "request_timeout",
        seconds_or_never(),
        "seconds that the application may take for a request, until the client gets 504; 0: no limit (docs/http.md)",
        "SECONDS",
    ),
    _option(
        "keep_alive_timeout",
        whole("a number of seconds", 0, 86_400),
        "seconds until an idle connection is closed",
        "SECONDS",
    ),
    _option("max_header_bytes", whole("a number of bytes", 1024, 16_777_216), "the largest request head", "BYTES"),
    _option("max_headers", whole("a number of headers", 1, 100_000), "the most headers of a request", "N"),
    _option(
        "max_body_bytes",
        whole("a number of bytes", 0, 2**60),
        "the largest request body; 0: no limit",
        "BYTES",
    ),
    _option(
        "forwarded_allow_ips",
        text("a list of addresses, networks, unix, or *", r"[^\0]*"),
        "proxies whose forwarded headers are trusted; unix: every peer on a Unix socket",
        "LIST",
        env=("FORWARDED_ALLOW_IPS",),
    ),
    _option(
        "proxy_protocol",
        SWITCH,
        "each connection from one of these proxies begins with a PROXY header, version 1 or 2",
        flags=("--proxy-protocol",),
    ),
    _option("root_path", text("a path", r"[^\0]*"), "the path under which a proxy mounts the application", "PATH"),
    _option(
        "limit_concurrency",
        whole("a number of connections", 1, 1_000_000),
        "answer 503 above this number of connections in one app worker",
        "N",
        default="no limit",
    ),
    _option(
        "headers",
        many("a list of NAME:VALUE", HEADER),
        "a header for every response; may be repeated",
        "NAME:VALUE",
        flags=("--header",),
        is_many=True,
    ),
    _option("server_header", SWITCH, "send a Server header", flags=("--no-server-header",)),
    _option("ws_max_size", BYTES, "the largest WebSocket message, in bytes", "BYTES"),
    _option("ws_ping_interval", seconds_or_never(), "seconds between two pings to a WebSocket; 0: none", "SECONDS"),
    _option(
        "ws_ping_timeout", seconds_or_never(), "seconds that its answer may take; 0: as long as it likes", "SECONDS"
    ),
    _option(
        "access_log",
        SWITCH,
        "one log line for each request",
        flags=("--access-log/--no-access-log",),
        default="on in the env `local`, else off",
    ),
    _option(
        "access_log_format",
        text("a format of gunicorn's atoms, or json", r"[^\0]*"),
        "what a line of the access log looks like: gunicorn's atoms, or json",
        "FORMAT",
        default="gunicorn's own",
    ),
    _option("log_format", choice("text", "json"), "log lines as text or json", "FORMAT"),
    _option("log_config", PATH, "a logging configuration that replaces the built-in one", "FILE", is_path=True),
    _option("log_level", LEVEL, "the log level of all three roles", "LEVEL"),
    _option("master_log_level", LEVEL, "the master's log level", flags=(), env=("EGG_MASTER_LOGGER_LEVEL",)),
    _option("agent_log_level", LEVEL, "the agent's log level", flags=(), env=("EGG_AGENT_WORKER_LOGGER_LEVEL",)),
    _option("app_log_level", LEVEL, "the app workers' log level", flags=(), env=("EGG_APP_WORKER_LOGGER_LEVEL",)),
    _option("start_mode", start_mode(), "what a worker is made of: process, thread or interpreter", "MODE"),
    _option(
        "env",
        ENV_NAME,
        "the environment: local, unittest, prod, …",
        "ENV",
        env=("EGG_SERVER_ENV",),
        default="`prod` for `start`, `local` for `dev`",
    ),
    _option(
        "require",
        many("a list of module names", MODULE_NAME),
        "a module that the agent and the app workers import first; may be repeated",
        "MODULE",
        is_many=True,
    ),
    _option("pid_file", PATH, "the file to write the master's pid to", "FILE", is_path=True),
    _option("name", CLUSTER_NAME, "the cluster's name", "NAME", default="the base directory's name"),
    _option("daemon", SWITCH, "run in the background; the command returns once the cluster is ready"),
    _option("strict", SWITCH, "close with exit code 1 if the agent is missing for three checks in a row"),
    _option(
        "app_close_timeout",
        CLOSE_MS,
        "milliseconds in which an app worker must close",
        "MS",
        env=("EGG_APP_CLOSE_TIMEOUT", "EGG_MASTER_CLOSE_TIMEOUT"),
    ),
    _option(
        "agent_close_timeout",
        CLOSE_MS,
        "milliseconds in which the agent must close",
        "MS",
        env=("EGG_AGENT_CLOSE_TIMEOUT", "EGG_MASTER_CLOSE_TIMEOUT"),
    ),
    _option(
        "close_timeout",
        CLOSE_MS,
        "milliseconds in which the whole cluster must close",
        "MS",
        default="15000, or the sum of the other two and 5000 if that is more",
    ),
    _option(
        "max_draining",
        whole("a number of workers", 0, 1024),
        "app workers that may drain at a time before a reload goes on; 0: as many as there are workers",
        "N",
    ),
    _option("app_start_timeout", seconds(), "seconds in which an app worker must start", "SECONDS"),
    _option("agent_start_timeout", seconds(), "seconds in which the agent must start", "SECONDS"),
    _option(
        "worker_timeout",
        seconds_or_never(MIN_HANG_TIMEOUT),
        "seconds without a heartbeat until an app worker counts as hung and is replaced; 0: never",
        "SECONDS",
        default="`30`; `0` in the env `local`",
    ),
    _option(
        "agent_timeout",
        seconds_or_never(MIN_HANG_TIMEOUT),
        "seconds without a heartbeat until the agent counts as hung and is replaced; 0: never",
        "SECONDS",
        default="`30`; `0` in the env `local`",
    ),
    _option(
        "max_requests",
        whole("a number of requests", 0, 10**12),
        "replace an app worker after this number of requests, or up to 10 % earlier; 0: never",
        "N",
    ),
    _option(
        "max_lifetime",
        seconds_or_never(),
        "replace an app worker after this number of seconds, or up to 10 % earlier; 0: never",
        "SECONDS",
    ),
    _option(
        "max_rss",
        size("an amount of memory", 0, 1024 * GIB),
        "replace an app worker that holds more memory than this, in bytes or as `512MiB`, `2GiB`; 0: never",
        "SIZE",
    ),
    _option("max_message_bytes", BYTES, "the largest message between processes, in bytes", "BYTES"),
    _option("max_queue_bytes", BYTES, "how many bytes may wait for a receiver, or in a sender", "BYTES"),
)

BY_FIELD = {option.field: option for option in OPTIONS}


def default_text(option: Option) -> str:
    """Return the default as documents show it."""
    if option.default:
        return option.default
    default = default_of(option.field)
    if isinstance(default, bool):
        return "on" if default else "off"
    return "" if default in (None, (), "") else f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
