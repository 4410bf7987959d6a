"""`parse_options`: from all the sources to one checked value. Runs in the process that starts a cluster."""

import os
from collections.abc import Callable, Iterable, Mapping

from eggcluster.errors import OptionsError
from eggcluster.options.checks import files, listening, target, tls
from eggcluster.options.cluster_options import ClusterOptions, ResolvedOptions
from eggcluster.options.merge import merge, read, settle
from eggcluster.options.resolve import resolve
from eggcluster.options.sources import Naming, Source, from_caller, from_environment, from_file, from_resolution

Check = Callable[[ResolvedOptions, Naming], Iterable[str]]

# A check is left out when a field it looks at is already known to be wrong: one line for each mistake.
CHECKS: tuple[tuple[Check, frozenset[str]], ...] = (
    (files.check_text, frozenset()),
    (files.check_base_dir, frozenset()),
    (files.check_files, frozenset({"base_dir"})),
    (listening.check_ports, frozenset({"ports", "workers"})),
    (listening.check_fd, frozenset({"fd"})),
    (listening.check_uds, frozenset({"uds"})),
    (listening.check_sticky, frozenset({"sticky", "uds", "ports"})),
    (listening.check_recycling, frozenset({"start_mode", "max_rss"})),
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
    default_env: str = "prod",
    **options: object,
) -> ResolvedOptions:
    """Merge all sources, check the result as a whole, and answer with `ResolvedOptions`.

    Later sources win: defaults, `[tool.eggcluster]` in the base directory's pyproject.toml (or
    eggcluster.toml), `environ` (that of this process if None), and last the call itself: `given` and,
    over it, `options`. A `str` is the application's target; a `CommandLine` holds text that is still to be
    read. An option that excludes one of a later source is dropped; within one source that is a problem.
    No module of the user is imported, no socket bound.
    May be called again on its own result, which changes nothing.

    Raises `OptionsError` with one line in `problems` for each bad option.
    """
    environ = os.environ if environ is None else environ
    caller = from_caller(given, options)
    base_dir = _base_dir(caller)
    sources = (from_file(base_dir), from_environment(environ), from_resolution(given), caller)
    entries, quarrels = settle(merge(sources))
    values, wrong = read(entries)
    resolved = resolve(values, entries, base_dir=base_dir, environ=environ, default_env=default_env)
    problems = [line for source in sources for line in source.problems] + quarrels + list(wrong.values())
    problems += _check(resolved, {**caller.names, **{field: entry.name for field, entry in entries.items()}}, wrong)
    if problems:
        raise OptionsError(*dict.fromkeys(problems))
    return resolved


def _base_dir(caller: Source) -> str:
    given = caller.values.get("base_dir")
    try:
        return os.path.abspath(given if isinstance(given, str) else "")
    except FileNotFoundError:
        raise OptionsError("base_dir: the current directory no longer exists; name another one") from None


def _check(options: ResolvedOptions, names: Mapping[str, str], wrong: Iterable[str]) -> list[str]:
    def name(field: str) -> str:
        return names.get(field, field)

    known = {*wrong} if os.path.isdir(options.base_dir) else {*wrong, "base_dir"}
    return [line for check, fields in CHECKS if not fields & known for line in check(options, name)]
