"""The table of options: where each can be given, and which values are right. Runs in the process that starts a cluster.

The command's flags and the table in docs/options.md are made from it.
"""

from eggcluster.model.lives.health import MIN_HANG_TIMEOUT
from eggcluster.options.option import SWITCH, row
from eggcluster.options.option_type import (
    access_log_format,
    admin_address,
    choice,
    header,
    log_level,
    many,
    permissions,
    seconds,
    seconds_or_never,
    size,
    start_mode,
    sticky_way,
    text,
    whole,
    whole_or,
)

DAY_MS = 86_400_000
GIB = 1024**3
MODULE = r"(?:[^\W\d]\w*)(?:\.[^\W\d]\w*)*"


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
HEADER = header()
ROOT_PATH = text('a path that begins with "/" and does not end with it, such as /shop', r"(?:/[^\0/]+)*")
# Characters that `ps`, a directory name and a shell take without quoting.
CLUSTER_NAME = text("1 to 64 letters, digits, dots, dashes and underscores", r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}")
THREAD_NAME = text("the name of a thread", r"[^\0-\x1f\x7f\ud800-\udfff]+")
ENV_NAME = text("a word of letters, digits, dots, dashes and underscores", r"[A-Za-z0-9._-]{1,64}")


OPTIONS = (
    row("app", TARGET, "the application", "TARGET", flags=()),
    row("factory", SWITCH, "TARGET is a callable without parameters that builds the application"),
    row(
        "agent",
        TARGET,
        "the agent",
        "MODULE:ATTRIBUTE",
        default="`agent:agent` if the base directory has it, else an empty agent",
    ),
    row("no_agent", SWITCH, "run an empty agent, even if `agent.py` exists"),
    row(
        "base_dir",
        text("a directory", r"[^\0]*"),
        "the application's directory; modules are looked up there first",
        "DIR",
        default="the current directory",
        in_file=False,
    ),
    row("framework", MODULE_NAME, "a module that defines `Application` and `Agent`", "MODULE"),
    row(
        "workers",
        WORKERS,
        "the number of app workers; `auto`: as many as CPU affinity and cgroup quota allow",
        "N",
        flags=("-w", "--workers"),
        env=("EGG_WORKERS", "WEB_CONCURRENCY"),
    ),
    row("host", HOST, "the address to listen on", "HOST", env=("HOST",)),
    row(
        "port",
        PORT,
        "the port to listen on; 0: any free port",
        "PORT",
        flags=("-p", "--port"),
        env=("PORT",),
        default="7001; 8443 with TLS",
    ),
    row("uds", PATH, "a Unix socket to listen on, instead of host and port", "PATH", is_path=True),
    row(
        "uds_mode",
        permissions(),
        "the permissions of that socket's file, in octal; 0666 lets every user connect",
        "MODE",
        default="`0666` less the umask",
    ),
    row(
        "fd",
        whole("a file descriptor", 0, 1_048_576),
        "an inherited socket to listen on, instead of host and port",
        "FD",
    ),
    row("ports", OWN_PORTS, "one port for each app worker, for a balancer in front of them", "PORT,PORT,…"),
    row(
        "sticky",
        SWITCH,
        "every client keeps its worker, by its address (docs/sticky.md)",
        flags=("--sticky/--no-sticky",),
    ),
    row(
        "sticky_by",
        many("a list of address, cookie, cookie:NAME, header:NAME or query:NAME", sticky_way()),
        "what a client's worker is found by; may be repeated, in the order of rank (docs/sticky.md)",
        "WAY",
        default="`address` with `--sticky`",
        is_many=True,
    ),
    row(
        "sticky_via",
        choice("bpf", "acceptor"),
        "how a client's worker is found: by a kernel program (bpf), or by the master, which accepts (acceptor)",
        "HOW",
        default="`bpf`; `acceptor` if the kernel has no steering",
    ),
    row("sticky_hold", seconds(), "seconds that the clients of a dead worker wait for its replacement", "SECONDS"),
    row("https_key", PATH, "the private key for TLS (PEM)", "FILE", is_path=True),
    row("https_cert", PATH, "the certificate chain for TLS (PEM)", "FILE", is_path=True),
    row("https_ca", PATH, "the CA that client certificates must come from (PEM)", "FILE", is_path=True),
    row(
        "https_key_password",
        text("text"),
        "the key's passphrase; it has no flag, because every user of the machine can read a command line",
        flags=(),
        env=("EGG_HTTPS_KEY_PASSWORD",),
        is_secret=True,
    ),
    row("debug_port", PORT, "a port for plain HTTP, beside HTTPS", "PORT"),
    row("interface", choice("auto", "asgi", "wsgi"), "what the application speaks: auto, asgi or wsgi", "KIND"),
    row("backlog", whole("a number of connections", 1, 65535), "how many connections may wait to be accepted", "N"),
    row("threads", whole("a number of threads", 1, 1000), "WSGI threads of one app worker", "N"),
    row(
        "header_timeout",
        seconds_or_never(),
        "seconds for a request's head to arrive, and for a TLS handshake; 0: no limit",
        "SECONDS",
    ),
    row(
        "body_timeout",
        seconds_or_never(),
        "seconds between two pieces of a request's body; 0: no limit",
        "SECONDS",
    ),
    row(
        "write_timeout",
        seconds_or_never(),
        "seconds in which a client that reads nothing keeps its connection; 0: no limit",
        "SECONDS",
    ),
    row(
        "request_timeout",
        seconds_or_never(),
        "seconds that the application may take for a request, until the client gets 504; 0: no limit (docs/http.md)",
        "SECONDS",
    ),
    row(
        "keep_alive_timeout",
        whole("a number of seconds", 0, 86_400),
        "seconds until an idle connection is closed; 0: no limit",
        "SECONDS",
    ),
    row("max_header_bytes", whole("a number of bytes", 1024, 16_777_216), "the largest request head", "BYTES"),
    row("max_headers", whole("a number of headers", 1, 100_000), "the most headers of a request", "N"),
    row(
        "max_body_bytes",
        whole("a number of bytes", 0, 2**60),
        "the largest request body; 0: no limit",
        "BYTES",
    ),
    row(
        "forwarded_allow_ips",
        text("a list of addresses, networks, unix, or *", r"[^\0]*"),
        "proxies whose forwarded headers are trusted; unix: every peer on a Unix socket",
        "LIST",
        env=("FORWARDED_ALLOW_IPS",),
    ),
    row(
        "proxy_protocol",
        SWITCH,
        "each connection from one of these proxies begins with a PROXY header, version 1 or 2",
        flags=("--proxy-protocol",),
    ),
    row("root_path", ROOT_PATH, "the path under which a proxy mounts the application", "PATH"),
    row(
        "limit_concurrency",
        whole("a number of connections", 1, 1_000_000),
        "answer 503 from this number of connections in one app worker on, with the one that asks",
        "N",
        default="no limit",
    ),
    row(
        "headers",
        many("a list of NAME:VALUE", HEADER),
        "a header for every response; may be repeated",
        "NAME:VALUE",
        flags=("--header",),
        is_many=True,
    ),
    row("server_header", SWITCH, "send a Server header", flags=("--no-server-header",)),
    row("ws_max_size", BYTES, "the largest WebSocket message, in bytes", "BYTES"),
    row("ws_ping_interval", seconds_or_never(), "seconds between two pings to a WebSocket; 0: none", "SECONDS"),
    row("ws_ping_timeout", seconds_or_never(), "seconds that its answer may take; 0: as long as it likes", "SECONDS"),
    row(
        "access_log",
        SWITCH,
        "one log line for each request",
        flags=("--access-log/--no-access-log",),
        default="on in the env `local`, else off",
    ),
    row(
        "access_log_format",
        access_log_format(),
        "what a line of the access log looks like: gunicorn's atoms, or json",
        "FORMAT",
        default="gunicorn's own",
    ),
    row("log_format", choice("text", "json"), "log lines as text or json", "FORMAT"),
    row("log_config", PATH, "a logging configuration of your own: JSON, YAML or ini", "FILE", is_path=True),
    row("log_level", LEVEL, "the log level of all three roles", "LEVEL"),
    row("master_log_level", LEVEL, "the master's log level", flags=(), env=("EGG_MASTER_LOGGER_LEVEL",)),
    row("agent_log_level", LEVEL, "the agent's log level", flags=(), env=("EGG_AGENT_WORKER_LOGGER_LEVEL",)),
    row("app_log_level", LEVEL, "the app workers' log level", flags=(), env=("EGG_APP_WORKER_LOGGER_LEVEL",)),
    row("start_mode", start_mode(), "what a worker is made of: process, thread or interpreter", "MODE"),
    row(
        "env",
        ENV_NAME,
        "the environment: local, unittest, prod, …",
        "ENV",
        env=("EGG_SERVER_ENV",),
        default="`prod` for `start`, `local` for `dev`",
    ),
    row(
        "require",
        many("a list of module names", MODULE_NAME),
        "a module that the agent and the app workers import first; may be repeated",
        "MODULE",
        is_many=True,
    ),
    row("preload", SWITCH, "import the application once, in a template that the app workers are forked from"),
    row(
        "preload_threads",
        many("a list of thread names", THREAD_NAME),
        "a thread that the template of `preload` may have when it forks; may be repeated",
        "NAME",
        is_many=True,
    ),
    row("pid_file", PATH, "the file to write the master's pid to", "FILE", is_path=True),
    row("secret_file", PATH, "the secret behind `eggcluster.secret`", "FILE", default="a random secret", is_path=True),
    row("name", CLUSTER_NAME, "the cluster's name", "NAME", default="the base directory's name"),
    row("daemon", SWITCH, "run in the background; the command returns once the cluster is ready"),
    row("strict", SWITCH, "close with exit code 1 if the agent is missing for three checks in a row"),
    row(
        "app_close_timeout",
        CLOSE_MS,
        "milliseconds in which an app worker must close",
        "MS",
        env=("EGG_APP_CLOSE_TIMEOUT", "EGG_MASTER_CLOSE_TIMEOUT"),
    ),
    row(
        "agent_close_timeout",
        CLOSE_MS,
        "milliseconds in which the agent must close",
        "MS",
        env=("EGG_AGENT_CLOSE_TIMEOUT", "EGG_MASTER_CLOSE_TIMEOUT"),
    ),
    row(
        "close_timeout",
        CLOSE_MS,
        "milliseconds in which the whole cluster must close",
        "MS",
        default="15000, or the sum of the other two and 5000 if that is more",
    ),
    row(
        "max_draining",
        whole("a number of workers", 0, 1024),
        "app workers that may drain at a time before a reload goes on; 0: as many as there are workers",
        "N",
    ),
    row("app_start_timeout", seconds(), "seconds in which an app worker must start", "SECONDS"),
    row("agent_start_timeout", seconds(), "seconds in which the agent must start", "SECONDS"),
    row(
        "worker_timeout",
        seconds_or_never(MIN_HANG_TIMEOUT),
        "seconds without a heartbeat until an app worker counts as hung and is replaced; 0: never",
        "SECONDS",
        default="`30`; `0` in the env `local`",
    ),
    row(
        "agent_timeout",
        seconds_or_never(MIN_HANG_TIMEOUT),
        "seconds without a heartbeat until the agent counts as hung and is replaced; 0: never",
        "SECONDS",
        default="`30`; `0` in the env `local`",
    ),
    row(
        "max_requests",
        whole("a number of requests", 0, 10**12),
        "replace an app worker after this number of requests, or up to 10 % earlier; 0: never",
        "N",
    ),
    row(
        "max_lifetime",
        seconds_or_never(),
        "replace an app worker after this number of seconds, or up to 10 % earlier; 0: never",
        "SECONDS",
    ),
    row(
        "max_rss",
        size("an amount of memory", 0, 1024 * GIB),
        "replace an app worker that holds more memory than this, in bytes or as `512MiB`, `2GiB`; 0: never",
        "SIZE",
    ),
    row(
        "admin",
        admin_address(),
        "the address of the admin port, which the master answers: HOST:PORT, PORT (on 127.0.0.1) or unix:PATH",
        "ADDRESS",
    ),
    row(
        "admin_token_file",
        PATH,
        "a file with the token that the admin port's clients have to send; `/live` and `/ready` need none",
        "FILE",
        is_path=True,
    ),
    row(
        "ready_workers",
        whole("a number of workers", 1, 1024),
        "app workers that have to take connections for `/ready` to succeed",
        "N",
    ),
    row(
        "shutdown_delay",
        seconds_or_never(),
        "seconds between SIGTERM and the close, in which `/ready` fails and clients are still served",
        "SECONDS",
    ),
    row("max_message_bytes", BYTES, "the largest message between processes, in bytes", "BYTES"),
    row("max_queue_bytes", BYTES, "how many bytes may wait for a receiver, or in a sender", "BYTES"),
)

BY_FIELD = {option.field: option for option in OPTIONS}
