"""The defaults that depend on files, CPUs or other options. Runs in the process that starts a cluster."""

import os
import re
from collections.abc import Mapping
from typing import Any

from eggcluster.kernel.cpus import available_cpus
from eggcluster.options.cluster_options import AUTO, ResolvedOptions, default_of
from eggcluster.options.merge import LISTENING, SourcedValue, is_chosen
from eggcluster.options.table import BY_FIELD

PORT_DEFAULT = 7001  # Egg's
TLS_PORT_DEFAULT = 8443  # Egg's
CLOSE_MARGIN_MS = 5000


def resolve(
    values: Mapping[str, Any],
    entries: Mapping[str, SourcedValue],
    *,
    base_dir: str,
    environ: Mapping[str, str],
    default_env: str,
) -> ResolvedOptions:
    """Return what was given, made complete. It holds what any source named: resolving it again changes nothing."""
    given = {**values, "base_dir": base_dir, "env": values.get("env", default_env)}
    for field in values:
        if BY_FIELD[field].is_path:
            given[field] = _absolute(values[field], entries[field].directory)
    fds = 0 if _asks_to_listen(values) else systemd_sockets(environ)
    settled = {
        **given,
        "agent": _agent(given),
        "workers": _workers(given),
        "port": None if fds else _port(given),
        "listen_fds": fds,
        "access_log": _access_log(given),
        "name": given.get("name") or default_name(base_dir),
        "close_timeout": _close_timeout(given),
        **{field: _hang_timeout(given, field) for field in ("worker_timeout", "agent_timeout")},
    }
    named = {*entries, "base_dir", "env"}
    derived = {field: value for field, value in settled.items() if field not in named}
    return ResolvedOptions(**settled, named=tuple(sorted(named)), derived=derived)


def default_name(base_dir: str) -> str:
    """The base directory's own name, in the characters that a cluster's name may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(base_dir))[:64].strip("-") or "eggcluster"


def systemd_sockets(environ: Mapping[str, str]) -> int:
    """How many sockets systemd handed to this very process (sd_listen_fds(3)); they begin at descriptor 3."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    count = environ.get("LISTEN_FDS", "")
    return int(count) if re.fullmatch("[0-9]{1,4}", count) else 0


def has_agent_file(base_dir: str) -> bool:
    """Whether the base directory has a module `agent`."""
    return any(os.path.isfile(os.path.join(base_dir, file)) for file in ("agent.py", "agent/__init__.py"))


def _agent(given: Mapping[str, Any]) -> str | None:
    if given.get("no_agent"):
        return None
    return given.get("agent") or ("agent:agent" if has_agent_file(given["base_dir"]) else None)


def _workers(given: Mapping[str, Any]) -> int:
    workers: int = given.get("workers", AUTO)
    if workers == AUTO:
        return len(given.get("ports", ())) or available_cpus()
    return workers


def _port(given: Mapping[str, Any]) -> int | None:
    if given.get("port") is not None:
        port: int = given["port"]
        return port
    if any(is_chosen(given.get(field)) for field in ("uds", "fd", "ports")):
        return None
    return TLS_PORT_DEFAULT if given.get("https_key") else PORT_DEFAULT


def _access_log(given: Mapping[str, Any]) -> bool:
    return bool(given.get("access_log", given["env"] == "local"))


def _hang_timeout(given: Mapping[str, Any], field: str) -> float:
    # A developer stops in the debugger for as long as it takes.
    timeout: float = given.get(field, 0.0 if given["env"] == "local" else default_of(field))
    return timeout


def _close_timeout(given: Mapping[str, Any]) -> int:
    # One that was named is meant; the default leaves both roles their time and the master some for itself.
    roles = sum(given.get(field, default_of(field)) for field in ("app_close_timeout", "agent_close_timeout"))
    timeout: int = given.get("close_timeout", max(default_of("close_timeout"), roles + CLOSE_MARGIN_MS))
    return timeout


def _asks_to_listen(values: Mapping[str, Any]) -> bool:
    return any(is_chosen(values.get(field)) for field in LISTENING)


def _absolute(path: str, directory: str) -> str:
    return os.path.abspath(os.path.join(directory, path))
