"""`parse_options` makes one checked value of all sources. Runs in the process that starts a cluster."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from eggcluster.errors import OptionsError
from eggcluster.kernel.cpus import available_cpus
from eggcluster.model.lives.settings import CLOSE_MARGIN
from eggcluster.model.steering.key_source import ADDRESS
from eggcluster.options.checks import files, listening, reloading, target, tls
from eggcluster.options.cluster_options import AUTO, ClusterOptions, ResolvedOptions, default_of
from eggcluster.options.sources import (
    LISTENING,
    Naming,
    Source,
    SourcedValue,
    convert_values,
    from_caller,
    from_environment,
    from_file,
    from_resolution,
    is_chosen,
    merge,
    resolve_conflicts,
)
from eggcluster.options.table import BY_FIELD
from eggcluster.options.visible_path import follow, visible, working_directory

Check = Callable[[ResolvedOptions, Naming], Iterable[str]]

# Each check, and the fields that it looks at. It is skipped if one of them is already known to be wrong: each mistake
# gets one line.
CHECKS: tuple[tuple[Check, frozenset[str]], ...] = (
    (files.check_text, frozenset()),
    (files.check_base_dir, frozenset()),
    (files.check_files, frozenset({"base_dir"})),
    (files.check_secret_file, frozenset({"secret_file"})),
    (listening.check_ports, frozenset({"ports", "workers"})),
    (listening.check_fd, frozenset({"fd"})),
    (listening.check_uds, frozenset({"uds"})),
    (listening.check_sticky, frozenset({"sticky", "uds", "ports"})),
    (listening.check_sticky_by, frozenset({"sticky_by", "ports", "https_key", "https_cert", "start_mode"})),
    (listening.check_open_files, frozenset({"workers", "start_mode"})),
    (listening.check_recycling, frozenset({"start_mode", "max_rss"})),
    (listening.check_preload, frozenset({"start_mode", "preload", "preload_threads"})),
    (reloading.check_library, frozenset({"reload"})),
    (reloading.check_dirs, frozenset({"reload_dir"})),
    (tls.check_pair, frozenset({"https_key", "https_cert", "https_ca", "https_key_password"})),
    (tls.check_debug_port, frozenset({"debug_port", "port", "ports", "https_key", "https_cert"})),
    (target.check_app, frozenset({"app", "factory", "base_dir"})),
    (target.check_agent, frozenset({"agent", "no_agent", "base_dir"})),
    (target.check_framework, frozenset({"framework", "base_dir"})),
    (target.check_require, frozenset({"require", "base_dir"})),
)


def parse_options(
    given: ClusterOptions | Mapping[str, object] | str | None = None,
    /,
    *,
    environ: Mapping[str, str] | None = None,
    for_development: bool = False,
    **options: object,
) -> ResolvedOptions:
    """Merge all sources, check the result as a whole, and return `ResolvedOptions`.

    Later sources win: the defaults; `[tool.eggcluster]` in the base directory's pyproject.toml, or eggcluster.toml;
    `environ` (None: this process's environment); and last the call itself, in which `options` win over `given`. A `str`
    is the application's target. A `CommandLine` holds text that is not converted yet. An option that excludes one of a
    later source is dropped; within one source, that is a problem. `for_development` gives some options that no source
    names the defaults of `eggcluster dev`.

    No module of the user is imported, and no socket is bound. A call on its own result changes nothing.

    OptionsError, with one line in `problems` for each bad option.
    """
    environ = os.environ if environ is None else environ
    caller = from_caller(given, options)
    working_dir = _working_dir(given, environ)
    base_dir = _base_dir(caller, working_dir)
    sources = (from_file(base_dir), from_environment(environ), from_resolution(given), caller)
    entries, conflicts = resolve_conflicts(merge(sources))
    values, wrong = convert_values(entries)
    places = {"base_dir": base_dir, "working_dir": working_dir}
    resolved = resolve(values, entries, **places, environ=environ, for_development=for_development)
    problems = [line for source in sources for line in source.problems] + conflicts + list(wrong.values())
    problems += _check(resolved, {**caller.names, **{field: entry.name for field, entry in entries.items()}}, wrong)
    if problems:
        raise OptionsError(*dict.fromkeys(problems))
    return resolved


def _working_dir(given: object, environ: Mapping[str, str]) -> str:
    """Return where workers start; "" if the directory was removed: then they start where the master is."""
    if isinstance(given, ResolvedOptions) and given.working_dir:
        return given.working_dir
    try:
        return working_directory(environ)
    except FileNotFoundError:
        return ""


def _base_dir(caller: Source, working_dir: str) -> str:
    given = caller.values.get("base_dir")
    base_dir = visible(given if isinstance(given, str) else "", working_dir)
    if not base_dir.startswith("/"):
        raise OptionsError("base_dir: the current directory no longer exists; name an existing directory")
    return base_dir


def _check(options: ResolvedOptions, names: Mapping[str, str], wrong: Iterable[str]) -> list[str]:
    def name(field: str) -> str:
        return names.get(field, field)

    known = {*wrong} if os.path.isdir(options.base_dir) else {*wrong, "base_dir"}
    return [line for check, fields in CHECKS if not fields & known for line in check(options, name)]


# What `start` and `dev` do without being told. In development a reload waits for no stream: the page that holds it
# open is what the developer wants to see anew.
PRODUCTION: Mapping[str, Any] = {"env": "prod", "workers": AUTO, "reload": False, "drain_timeout": None}
DEVELOPMENT: Mapping[str, Any] = {"env": "local", "workers": 1, "reload": True, "drain_timeout": 250}
PORT_DEFAULT = 7001  # Egg's
TLS_PORT_DEFAULT = 8443  # Egg's


def resolve(
    values: Mapping[str, Any],
    entries: Mapping[str, SourcedValue],
    *,
    base_dir: str,
    working_dir: str,
    environ: Mapping[str, str],
    for_development: bool = False,
) -> ResolvedOptions:
    """Fill in the fields that no source named, and make paths absolute. Resolving the result again changes nothing."""
    defaults = DEVELOPMENT if for_development else PRODUCTION
    given = {**values, "base_dir": base_dir, "env": values.get("env", defaults["env"])}
    for field in values:
        if BY_FIELD[field].is_path:
            given[field] = _placed(values[field], entries[field].directory or working_dir)
    fds = 0 if _asks_to_listen(values) else systemd_sockets(environ)
    resolved = {
        **given,
        "agent": _agent(given),
        "workers": _workers(given, defaults["workers"]),
        **{field: given.get(field, defaults[field]) for field in ("reload", "drain_timeout")},
        "port": None if fds else _port(given),
        "listen_fds": fds,
        "sticky": bool(given.get("sticky")) or ADDRESS in given.get("sticky_by", ()),
        "access_log": _access_log(given),
        "name": given.get("name") or default_name(base_dir),
        "close_timeout": _close_timeout(given),
        **{field: _hang_timeout(given, field) for field in ("worker_timeout", "agent_timeout")},
    }
    named = {*entries, "base_dir", "env"}
    derived = {field: value for field, value in resolved.items() if field not in named}
    names = {field: entry.name for field, entry in entries.items() if entry.name != field}
    interpreter = follow(sys.executable, (working_dir, base_dir))
    return ResolvedOptions(
        **resolved,
        working_dir=working_dir,
        interpreter=interpreter,
        named=tuple(sorted(named)),
        derived=derived,
        names=names,
    )


def default_name(base_dir: str) -> str:
    """Return the base directory's own name, reduced to the characters that a cluster's name may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(base_dir))[:64].strip("-") or "eggcluster"


def systemd_sockets(environ: Mapping[str, str]) -> int:
    """Return how many sockets systemd passed to this very process (sd_listen_fds(3)); they begin at descriptor 3."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    count = environ.get("LISTEN_FDS", "")
    return int(count) if re.fullmatch("[0-9]{1,4}", count) else 0


def has_agent_file(base_dir: str) -> bool:
    """Return whether the base directory has a module `agent`."""
    return any(os.path.isfile(os.path.join(base_dir, file)) for file in ("agent.py", "agent/__init__.py"))


def _placed(value: Any, directory: str) -> Any:
    """Return a path, or each of several, as it is seen from `directory`."""
    return tuple(visible(each, directory) for each in value) if isinstance(value, tuple) else visible(value, directory)


def _agent(given: Mapping[str, Any]) -> str | None:
    if given.get("no_agent"):
        return None
    return given.get("agent") or ("agent:agent" if has_agent_file(given["base_dir"]) else None)


def _workers(given: Mapping[str, Any], default: int) -> int:
    workers: int = given.get("workers", AUTO)
    if workers == AUTO:
        return len(given.get("ports", ())) or (available_cpus() if default == AUTO else default)
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
    # In the env `local` a worker may stand in the debugger for any time.
    timeout: float = given.get(field, 0.0 if given["env"] == "local" else default_of(field))
    return timeout


def _close_timeout(given: Mapping[str, Any]) -> int:
    # The default leaves both roles their time, and the master some of its own. The supervisor waits no less than that
    # either if a shorter time was named (`SupervisorSettings.close_limit`).
    roles = sum(given.get(field, default_of(field)) for field in ("app_close_timeout", "agent_close_timeout"))
    timeout: int = given.get("close_timeout", max(default_of("close_timeout"), roles + int(CLOSE_MARGIN * 1000)))
    return timeout


def _asks_to_listen(values: Mapping[str, Any]) -> bool:
    return any(is_chosen(values.get(field)) for field in LISTENING)
