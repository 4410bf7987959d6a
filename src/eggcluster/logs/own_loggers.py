"""Our own loggers, which stay alive whatever the application configures. Runs in the master and in every worker.

`dictConfig` and `fileConfig` disable the loggers that they find, by default; `logging.disable` silences all, and in
thread mode the master, too. What the cluster has to say (a death, a drain, the traceback of a request) is for those who
run it, so none of these reaches our loggers. Their level and handlers can be set by name, as those of any logger.

Only `guard_own_loggers` makes them so. Under `start_cluster` it is never called, and they are loggers like others.
"""

import contextlib
import logging

from eggcluster.logs.log_escaping import escape_record, escape_traceback

OWN_ROOT = "eggcluster"
OWN_NAMES = (
    OWN_ROOT,
    "eggcluster.access",
    "eggcluster.agent",  # Agent.logger
    "eggcluster.app",  # Application.logger
    "eggcluster.cache",  # integrations.django
    "eggcluster.cluster_client",
    "eggcluster.http",
    "eggcluster.http.websockets",
    "eggcluster.lifespan",
    "eggcluster.limits",  # integrations.limits
    "eggcluster.master",
    "eggcluster.messenger",
    "eggcluster.shared",
    "eggcluster.worker",
)
ACCESS = "eggcluster.access"  # escapes its fields itself, and may be JSON
OF_APPLICATIONS = ("eggcluster.agent", "eggcluster.app")

_fallback: logging.Handler = logging.NullHandler()


class OwnLogger(logging.Logger):
    """A logger that nothing but its own level and filters silences. Without a handler its lines go to the fallback."""

    def isEnabledFor(self, level: int) -> bool:  # without `disabled` and `logging.disable`
        return level >= self.getEffectiveLevel()

    def handle(self, record: logging.LogRecord) -> None:  # without `disabled`
        kept = self.filter(record)
        if kept:
            self.callHandlers(kept if isinstance(kept, logging.LogRecord) else record)  # another record: as of 3.12

    def callHandlers(self, record: logging.LogRecord) -> None:
        if handlers_of(self):
            super().callHandlers(record)
        else:
            _fallback.handle(record)


def guard_own_loggers(fallback: logging.Handler) -> logging.Logger:
    """Keep our loggers alive from now on; return the one whose handlers and level hold for all of them."""
    global _fallback
    _fallback = fallback
    for name in OWN_NAMES:
        logger = logging.getLogger(name)
        if type(logger) is logging.Logger:
            # Modules hold these very objects since their import, so the object changes its class. A class set by
            # `logging.setLoggerClass` before would hold for the application's loggers, too.
            logger.__class__ = OwnLogger
    return logging.getLogger(OWN_ROOT)


def escape_own_lines() -> None:
    """Let our loggers escape foreign text from now on, under `start_cluster`, too. May be called again; no
    configuration undoes it. The applications' two change only the tracebacks that are logged there."""
    for name in OWN_NAMES:
        if name != ACCESS:
            logging.getLogger(name).addFilter(escape_traceback if name in OF_APPLICATIONS else escape_record)


def handlers_of(logger: logging.Logger | None) -> list[logging.Handler]:
    """Return the handlers that a record of this logger comes to; null handlers do not count."""
    found: list[logging.Handler] = []
    while logger is not None:
        found += [each for each in logger.handlers if not isinstance(each, logging.NullHandler)]
        logger = logger.parent if logger.propagate else None
    return found


def insist(logger: logging.Logger, level: int, text: str, *args: object) -> None:
    """Log a line that must not be lost by any level: without it a cluster would end, and nothing would say why.

    If no handler takes the line it goes to standard error.
    """
    if not isinstance(logger, OwnLogger):  # under `start_cluster`
        logger.log(level, text, *args)
        return
    record = logger.makeRecord(logger.name, level, *logger.findCaller(stacklevel=2)[:2], text, args, None)
    escape_record(record)
    if any(each.level <= level and each.filter(record) for each in handlers_of(logger)):
        logger.callHandlers(record)
    else:
        with _fallback.lock or contextlib.nullcontext():
            _fallback.emit(record)
