"""Configures the log of a process that is all ours. Runs in every worker, and in the master but for `start_cluster`."""

import logging
from typing import TYPE_CHECKING

from eggcluster.kernel.nonblocking_output import NonblockingOutput
from eggcluster.log_handler import LogHandler, SharedOutputHandler
from eggcluster.logs.line_format import formatter_for
from eggcluster.logs.log_config import load_log_config
from eggcluster.logs.own_loggers import guard_own_loggers, handlers_of
from eggcluster.logs.root_log import LentLevel, RootLog, keep_level, lend_root
from eggcluster.logs.speaker import SpeakerLevel, name_speakers

if TYPE_CHECKING:
    from eggcluster.options import ResolvedOptions

# Applications log by these loggers, and copy their handlers, because there they are always shown. `uvicorn.error` has
# no handler of its own there either.
OTHER_SERVERS = (
    "uvicorn",
    "uvicorn.access",
    "gunicorn.error",
    "gunicorn.access",
    "hypercorn.error",
    "hypercorn.access",
)


def configure_logs(options: "ResolvedOptions", speaker: str, level: str) -> LogHandler:
    """Send this process's log to standard error, or where `log_config` says. Call it once, before the first log line.

    `speaker` is the name in brackets: `master`, `agent_worker`, `app_worker#2`. Return the handler of standard error;
    call its `run_in` once the event loop runs. OptionsError if `log_config` is wrong.
    """
    handler = LogHandler(NonblockingOutput(2))
    handler.setFormatter(formatter_for(options.log_format))
    name_speakers(speaker)
    own = guard_own_loggers(handler)
    threads = options.start_mode == "thread"  # then the other workers' lines come here, too
    if threads:
        handler.addFilter(SpeakerLevel(level))
    app_level = _lowest(options.agent_log_level, options.app_log_level) if threads else _lowest(level)
    own_level = min(app_level, _lowest(level))
    root_log = RootLog(_shared_handler(handler, options), app_level)
    if options.log_config:
        load_log_config(options.log_config, options.base_dir)
        _keep_configured(own, own_level)
    else:
        own.addHandler(handler)
        own.setLevel(own_level)
        _serve_other_names(handler, options, app_level)
    own.propagate = False
    lend_root(root_log)
    return handler


def _lowest(*levels: str) -> int:
    numbers = logging.getLevelNamesMapping()
    return min(numbers[level] for level in levels)


def _shared_handler(handler: LogHandler, options: "ResolvedOptions") -> SharedOutputHandler:
    """Return a handler that writes lines in our form, for a logger that is not ours."""
    shared = SharedOutputHandler(handler)
    shared.setFormatter(formatter_for(options.log_format))
    if options.start_mode == "thread" and options.agent_log_level != options.app_log_level:
        shared.addFilter(SpeakerLevel(options.app_log_level))
    return shared


def _keep_configured(own: logging.Logger, level: int) -> None:
    """Keep for our lines the level and the handlers that they have by `log_config`, also those of the root logger: what
    the application configures later is for its own lines."""
    by_root = 0 if isinstance(logging.root.level, LentLevel) else logging.root.level
    own.setLevel(own.level or by_root or level)
    for each in handlers_of(own):
        own.addHandler(each)
    keep_level()


def _serve_other_names(handler: LogHandler, options: "ResolvedOptions", level: int) -> None:
    """Show what an application logs by the names that are always shown under the server that it comes from."""
    for name in OTHER_SERVERS:
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(_shared_handler(handler, options))
            logger.setLevel(level)
            logger.propagate = False
