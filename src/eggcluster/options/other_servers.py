"""What gunicorn's, uvicorn's, granian's and hypercorn's options are called here. Runs in the user's shell.

The hints for unknown options come from this table, and so do the tables in README.md and in docs/other-servers.md,
which a test compares. An option with the same name and the same meaning here has no row.
"""

import re
from typing import NamedTuple

# The releases whose options the table has; a test reads the options of these.
RELEASES = {"gunicorn": "27.0.1", "uvicorn": "0.54.0", "granian": "2.8.9", "hypercorn": "0.18.0"}

GUNICORN, UVICORN, GRANIAN, HYPERCORN = RELEASES
NOT_NEEDED, NOT_THERE = "not needed", "not there"


class OtherOption(NamedTuple):
    """One row. `write` is what to write here; without it, `note` says why there is nothing to write.

    A note begins with NOT_NEEDED or NOT_THERE if there is nothing to write. `is_common`: README.md has the row, too.
    """

    servers: tuple[str, ...]
    flags: tuple[str, ...]
    write: str = ""
    note: str = ""
    is_common: bool = False


def _row(servers: str, flags: str, write: str = "", note: str = "", *, is_common: bool = False) -> OtherOption:
    return OtherOption(tuple(servers.split()), tuple(flags.split()), write, note, is_common)


def _not(servers: str, flags: str, note: str, *, is_common: bool = False) -> OtherOption:
    return _row(servers, flags, "", note, is_common=is_common)


_METRICS = "`/metrics` there is for Prometheus and OpenMetrics"
_SYSTEM = f"{NOT_THERE}: systemd or the container sets it"
_RFC = f"{NOT_THERE}: requests are read as RFC 9112 says (docs/http.md)"
_HTTP_2 = f"{NOT_THERE}: this server speaks HTTP/1.1; let a proxy speak HTTP/2 to the clients"
_LOG_CONFIG = "use a handler of Python's logging"
_IMPORTED = f"{NOT_NEEDED}: only files that were imported, or that you name, are watched (docs/dev.md)"
_RESPAWN = f"{NOT_NEEDED}: a worker that dies is replaced, with growing delays"

OTHER_OPTIONS = (
    # -- where it listens
    _row("gunicorn hypercorn", "-b --bind", "--host HOST --port PORT", "or `--uds PATH`, `--fd FD`", is_common=True),
    _row("hypercorn", "--insecure-bind", "--debug-port PORT", "plain HTTP beside TLS"),
    _not("hypercorn", "--quic-bind", f"{NOT_THERE}: let a proxy speak HTTP/3 to the clients"),
    _not("gunicorn", "--reuse-port", f"{NOT_NEEDED}: the kernel spreads the connections over the workers"),
    _row("granian", "--uds-permissions", "--uds-mode MODE", "in octal: 0660"),
    # -- what it runs
    _not("gunicorn hypercorn", "-k --worker-class", f"{NOT_NEEDED}: ASGI or WSGI is detected", is_common=True),
    _row("gunicorn", "--chdir", "--base-dir DIR"),
    _row("uvicorn", "--app-dir", "--base-dir DIR", is_common=True),
    _row("granian", "--working-dir", "--base-dir DIR"),
    _not("gunicorn", "--pythonpath", f"{NOT_NEEDED}: the base directory comes first; `PYTHONPATH` adds others"),
    _not("gunicorn", "--paste --paster --paste-global", f"{NOT_THERE}: name the application as module:attribute"),
    _not("granian", "--no-factory", f"{NOT_NEEDED}: it is the default"),
    _not("uvicorn", "--lifespan", f"{NOT_NEEDED}: whether the application has a lifespan is detected"),
    _not("gunicorn", "--asgi-lifespan", f"{NOT_NEEDED}: whether the application has a lifespan is detected"),
    _not("uvicorn granian", "--loop", f"{NOT_NEEDED}: the event loop is uvloop"),
    _not("gunicorn", "--asgi-loop", f"{NOT_NEEDED}: the event loop is uvloop"),
    _not(
        "granian",
        "--task-impl --runtime-mode --runtime-threads --runtime-blocking-threads",
        f"{NOT_THERE}: uvloop runs the tasks",
    ),
    _not("uvicorn", "--reset-contextvars", f"{NOT_NEEDED}: each request has a context of its own"),
    _not("gunicorn", "--reload-engine", f"{NOT_NEEDED}: the kernel tells what has changed"),
    _row("gunicorn", "--reload-extra-file", "--reload-include GLOB"),
    _row("granian", "--reload-paths", "--reload-dir DIR"),
    _not("uvicorn", "--reload-exclude", _IMPORTED),
    _not("granian", "--reload-ignore-dirs --reload-ignore-patterns --reload-ignore-paths", _IMPORTED),
    _not("uvicorn", "--reload-delay", f"{NOT_NEEDED}: a change is seen within milliseconds"),
    _not("granian", "--reload-tick", f"{NOT_NEEDED}: a change is seen within milliseconds"),
    _not(
        "granian",
        "--reload-ignore-worker-failure --no-reload-ignore-worker-failure",
        f"{NOT_NEEDED}: the last version that started goes on",
    ),
    _row("gunicorn", "-R --enable-stdio-inheritance", "", f"{NOT_NEEDED}: the workers inherit the output"),
    _row("hypercorn", "--debug", "--log-level debug", "for debugging, `eggcluster dev`"),
    # -- how many, how long
    _row("granian", "--blocking-threads", "--threads N", "WSGI threads of one worker; the default is 8"),
    _not("granian", "--blocking-threads-idle-timeout", f"{NOT_NEEDED}: the threads stay"),
    _row("gunicorn", "--worker-connections", "--limit-concurrency N", "connections of one worker"),
    _row("granian", "--backpressure", "--limit-concurrency N", "connections of one worker"),
    _row("gunicorn", "-t --timeout", "--worker-timeout SECONDS", "hung workers; the default is 30", is_common=True),
    _row("uvicorn", "--timeout-worker-healthcheck", "--worker-timeout SECONDS", "hung workers; the default is 30"),
    _row(
        "gunicorn hypercorn",
        "--graceful-timeout",
        "--app-close-timeout MS",
        "in milliseconds: 31000 for 30 seconds; **the default is 5000**, of which requests may use 4000",
        is_common=True,
    ),
    _row(
        "uvicorn",
        "--timeout-graceful-shutdown",
        "--app-close-timeout MS",
        "in milliseconds: 31000 for 30 seconds; **the default is 5000**, of which requests may use 4000",
        is_common=True,
    ),
    _row("granian", "--workers-kill-timeout", "--app-close-timeout MS", "in milliseconds"),
    _row("gunicorn hypercorn", "--keep-alive", "--keep-alive-timeout SECONDS"),
    _row("uvicorn", "--timeout-keep-alive", "--keep-alive-timeout SECONDS", is_common=True),
    _row("hypercorn", "--read-timeout", "--body-timeout SECONDS", "and `--header-timeout SECONDS`"),
    _row("granian", "--http1-header-read-timeout", "--header-timeout SECONDS", "in seconds"),
    _not("granian", "--http1-keep-alive", f"{NOT_NEEDED}: it is the default"),
    _row("granian", "--no-http1-keep-alive", "--keep-alive-timeout 0"),
    _not(
        "gunicorn hypercorn",
        "--max-requests-jitter",
        f"{NOT_NEEDED}: `--max-requests 1000` acts up to 10 % earlier, one worker at a time",
        is_common=True,
    ),
    _row("uvicorn", "--limit-max-requests", "--max-requests N", "up to 10 % earlier, one worker at a time"),
    _not("uvicorn", "--limit-max-requests-jitter", f"{NOT_NEEDED}: `--max-requests 1000` acts up to 10 % earlier"),
    _row("granian", "--workers-lifetime", "--max-lifetime SECONDS"),
    _row("granian", "--workers-max-rss", "--max-rss SIZE", "in bytes, or as `512MiB`"),
    _not("granian", "--rss-sample-interval --rss-samples", f"{NOT_NEEDED}: `--max-rss` is checked continuously"),
    _not("granian", "--respawn-failed-workers --no-respawn-failed-workers --respawn-interval", _RESPAWN),
    # -- HTTP
    _row("gunicorn", "--limit-request-line", "--max-header-bytes BYTES", "of the whole head"),
    _row("gunicorn", "--limit-request-field_size", "--max-header-bytes BYTES", "of the whole head"),
    _row("gunicorn", "--limit-request-fields", "--max-headers N"),
    _row("uvicorn", "--h11-max-incomplete-event-size", "--max-header-bytes BYTES"),
    _not("granian", "--http1-buffer-size --http1-pipeline-flush --no-http1-pipeline-flush", f"{NOT_THERE}"),
    _not("uvicorn", "--http", f"{NOT_NEEDED}: the parser is llhttp"),
    _not("gunicorn", "--http-parser", f"{NOT_NEEDED}: the parser is llhttp"),
    _not("granian", "--http", _HTTP_2),
    _not("uvicorn", "--http2", _HTTP_2),
    _not("gunicorn", "--http-protocols --http2-cleartext --http2-initial-window-size", _HTTP_2),
    _not("gunicorn", "--http2-max-concurrent-streams --http2-max-frame-size --http2-max-header-list-size", _HTTP_2),
    _not("granian", "--http2-adaptive-window --no-http2-adaptive-window --http2-keep-alive-interval", _HTTP_2),
    _not("granian", "--http2-initial-connection-window-size --http2-initial-stream-window-size", _HTTP_2),
    _not("granian", "--http2-keep-alive-timeout --http2-max-concurrent-streams --http2-max-frame-size", _HTTP_2),
    _not("granian", "--http2-max-headers-size --http2-max-send-buffer-size", _HTTP_2),
    _not("gunicorn", "--casefold-http-method --permit-unconventional-http-method", _RFC),
    _not("gunicorn", "--permit-unconventional-http-version --permit-obsolete-folding --strip-header-spaces", _RFC),
    _not("gunicorn", "--forwarder-headers --header-map", _RFC),
    _not("gunicorn", "--protocol --uwsgi-allow-from", f"{NOT_THERE}: let the proxy speak HTTP, not uwsgi"),
    _row("gunicorn", "--proxy-allow-from", "--forwarded-allow-ips LIST"),
    _row("uvicorn", "--proxy-headers", "--forwarded-allow-ips LIST", "the proxies whose headers are believed"),
    _row("uvicorn", "--no-proxy-headers", '--forwarded-allow-ips ""'),
    _row("granian", "--url-path-prefix", "--root-path PATH"),
    _not("uvicorn", "--server-header --date-header", f"{NOT_NEEDED}: it is the default"),
    _not("uvicorn", "--no-date-header", f"{NOT_THERE}: RFC 9110 wants the header"),
    _not("hypercorn", "--server-name", f"{NOT_THERE}: let the proxy or the application check the host"),
    _not("gunicorn", "--no-sendfile", f"{NOT_NEEDED}: files are sent in the way that the connection allows"),
    _not("gunicorn", "--asgi-disconnect-grace-period", f"{NOT_THERE}: the application hears of it at once"),
    _not("granian", "--static-path-route --static-path-mount", f"{NOT_THERE}: let the proxy serve files"),
    _not("granian", "--static-path-dir-to-file --static-path-expires", f"{NOT_THERE}: let the proxy serve files"),
    # -- WebSockets
    _not("uvicorn granian", "--ws", f"{NOT_NEEDED}: WebSockets are served"),
    _not("granian", "--no-ws", f"{NOT_THERE}: an application without WebSockets refuses them"),
    _row("gunicorn", "--websocket-max-message-size", "--ws-max-size BYTES"),
    _not("uvicorn", "--ws-max-queue --ws-per-message-deflate", f"{NOT_THERE}"),
    _row("hypercorn", "--websocket-ping-interval", "--ws-ping-interval SECONDS", "the default is 20"),
    # -- TLS
    _row("gunicorn hypercorn", "--certfile", "--https-cert FILE", is_common=True),
    _row("uvicorn", "--ssl-certfile", "--https-cert FILE", is_common=True),
    _row("granian", "--ssl-certificate", "--https-cert FILE"),
    _row("gunicorn hypercorn", "--keyfile", "--https-key FILE", is_common=True),
    _row("uvicorn granian", "--ssl-keyfile", "--https-key FILE", is_common=True),
    _row("gunicorn hypercorn", "--ca-certs", "--https-ca FILE"),
    _row("uvicorn", "--ssl-ca-certs", "--https-ca FILE"),
    _row("granian", "--ssl-ca", "--https-ca FILE"),
    _row("uvicorn granian", "--ssl-keyfile-password", "EGG_HTTPS_KEY_PASSWORD=…", "in the environment"),
    _row("hypercorn", "--keyfile-password", "EGG_HTTPS_KEY_PASSWORD=…", "in the environment"),
    _not("gunicorn hypercorn", "--cert-reqs", f"{NOT_NEEDED}: `--https-ca` asks clients for a certificate"),
    _not("uvicorn", "--ssl-cert-reqs", f"{NOT_NEEDED}: `--https-ca` asks clients for a certificate"),
    _not("hypercorn", "--verify-mode", f"{NOT_NEEDED}: `--https-ca` asks clients for a certificate"),
    _not("granian", "--ssl-client-verify --no-ssl-client-verify", f"{NOT_NEEDED}: `--https-ca` asks for a certificate"),
    _not("gunicorn hypercorn", "--ciphers", f"{NOT_THERE}: Python's own choice"),
    _not("uvicorn", "--ssl-ciphers --ssl-version", f"{NOT_THERE}: Python's own choice"),
    _not("gunicorn", "--ssl-version --do-handshake-on-connect --suppress-ragged-eofs", f"{NOT_THERE}: Python's choice"),
    _not("granian", "--ssl-protocol-min --ssl-crl", f"{NOT_THERE}: Python's own choice"),
    # -- logs
    _row("gunicorn hypercorn", "--access-logfile", "--access-log", "to standard error", is_common=True),
    _row("gunicorn hypercorn", "--access-logformat", "--access-log-format FORMAT", "gunicorn's atoms, or json"),
    _row("granian", "--access-log-fmt", "--access-log-format FORMAT", "gunicorn's atoms, or json"),
    _not("gunicorn hypercorn", "--error-logfile --log-file", f"{NOT_NEEDED}: redirect standard error"),
    _not("hypercorn", "--error-log", f"{NOT_NEEDED}: redirect standard error"),
    _row("gunicorn", "--log-config-json", "--log-config FILE"),
    _row("gunicorn", "--logger-class", "--log-config FILE"),
    _row("gunicorn", "--log-syslog --log-syslog-to --log-syslog-prefix", "--log-config FILE", _LOG_CONFIG),
    _row("gunicorn", "--log-syslog-facility --disable-redirect-access-to-syslog", "--log-config FILE", _LOG_CONFIG),
    _not("gunicorn", "--capture-output", f"{NOT_NEEDED}: the output of the workers stays where it is"),
    _not("granian", "--log", f"{NOT_NEEDED}: it is the default"),
    _row("granian", "--no-log", "--log-level critical"),
    _not("uvicorn", "--use-colors --no-use-colors", f"{NOT_NEEDED}: a terminal has colours, unless `NO_COLOR` is set"),
    _row("gunicorn hypercorn", "--statsd-host --statsd-prefix", "--admin ADDRESS", _METRICS),
    _row("gunicorn", "--dogstatsd-tags --enable-backlog-metric", "--admin ADDRESS", _METRICS),
    _row("granian", "--metrics --metrics-address --metrics-port", "--admin ADDRESS", _METRICS),
    _not("granian", "--no-metrics", f"{NOT_NEEDED}: there is no admin port by default"),
    _not("granian", "--metrics-scrape-interval", f"{NOT_NEEDED}: a scrape reads the counters as they are"),
    # -- how it runs
    _row("gunicorn hypercorn", "-c --config", "[tool.eggcluster]", "in `pyproject.toml`, or `eggcluster.toml`"),
    _not("gunicorn", "--check-config", f"{NOT_NEEDED}: a start checks all options first"),
    _not("gunicorn", "--print-config", f"{NOT_THERE}: `docs/options.md` has the defaults"),
    _row("gunicorn hypercorn", "-D", "--daemon", is_common=True),
    _row("gunicorn hypercorn", "--pid", "--pid-file FILE", "`-p` is the port here", is_common=True),
    _row("gunicorn", "-n", "--name NAME"),
    _row("granian", "--process-name", "--name NAME"),
    _not("gunicorn", "-e", f"{NOT_THERE}: set it in the environment of the command; `--env` is `local`, `prod`, …"),
    _not("uvicorn", "--env-file", f"{NOT_THERE}: set it in the environment of the command"),
    _not("granian", "--env-files", f"{NOT_THERE}: set it in the environment of the command"),
    _not("gunicorn hypercorn", "-u --user -g --group", _SYSTEM),
    _row(
        "gunicorn hypercorn", "-m --umask", "--uds-mode MODE", "of the socket; systemd or the container sets the umask"
    ),
    _not("gunicorn", "--initgroups", _SYSTEM),
    _not("gunicorn", "--worker-tmp-dir", f"{NOT_NEEDED}: heartbeats are in shared memory"),
    _not(
        "gunicorn", "--control-socket --control-socket-mode --no-control-socket", f"{NOT_NEEDED}: the commands find it"
    ),
    _row("gunicorn", "--dirty-app", "--agent MODULE:ATTRIBUTE", "the agent does what must be done once"),
    _row("gunicorn", "--dirty-workers --dirty-threads", "--agent MODULE:ATTRIBUTE", "there is one agent"),
    _row("gunicorn", "--dirty-timeout", "--agent-timeout SECONDS"),
    _row("gunicorn", "--dirty-graceful-timeout", "--agent-close-timeout MS", "in milliseconds"),
    _not("gunicorn", "--spew", f"{NOT_THERE}: see docs/debugging.md"),
)


def hint(flag: str) -> str:
    """Return what to write instead of an option of another server; "" if none of them has it."""
    found = [row for row in OTHER_OPTIONS if flag in row.flags]
    if not found:
        return ""
    *most, last = dict.fromkeys(f"{server}'s" for row in found for server in row.servers)
    servers = f"{', '.join(most)} and {last}" if most else last
    answer = found[0]
    note = answer.note.replace("**", "")
    if not answer.write:
        return f"{servers} is {note}"
    return f"write {answer.write} instead of {servers}" + (f" ({note})" if note else "")


def field_hint(name: str) -> str:
    """Return what to write instead of another server's option in a file or in Python: `hint` with names of fields."""
    return re.sub(r"--([a-z][a-z-]+)", _field_of, hint(f"--{name.replace('_', '-')}"))


def _field_of(flag: re.Match[str]) -> str:
    return flag[1].replace("-", "_")


def other_servers_markdown(*, common: bool = False) -> str:
    """Return the table of docs/other-servers.md; with `common` the shorter one of README.md."""
    lines = ["| there | of | here |", "| --- | --- | --- |"]
    for row in OTHER_OPTIONS:
        if row.is_common or not common:
            lines.append(f"| {_codes(row.flags)} | {', '.join(row.servers)} | {_here(row)} |")
    return "\n".join(lines) + "\n"


def _here(row: OtherOption) -> str:
    return "; ".join(part for part in (row.write and f"`{row.write}`", row.note) if part)


def _codes(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)
