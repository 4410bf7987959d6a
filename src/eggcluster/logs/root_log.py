"""The root logger, which is the application's, and ours while it has no handler. Runs in master and workers.

While the application boots, the root logger has no handler, so `logging.basicConfig` does what it does anywhere. What
has no handler goes to standard error meanwhile, by `logging.lastResort`. Once the application has booted, the root
logger gets our handler if it still has none. From then on it also shows the lines of libraries that have only a null
handler.
"""

import logging
import threading

from eggcluster.logs.own_loggers import handlers_of
from eggcluster.logs.speaker import keep_speakers


class LentLevel(int):
    """A level of the root logger that is ours, not the application's; it is told by its class."""


class UnshownOnly(logging.Filter):
    """Lets a record pass unless a handler between its logger and the root logger takes it: each line is shown once.

    Some libraries give their logger a handler if the root logger has none. A handler of errors alone does not count:
    it is an alarm, such as Django's mail to the administrators, and does not show a line.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        # Not `getLogger`, which would make a logger: the record may come from one that is not registered.
        logger = logging.root.manager.loggerDict.get(record.name)
        if not isinstance(logger, logging.Logger):
            return True
        own = [each for each in handlers_of(logger) if each not in logging.root.handlers]
        return not any(each.level < logging.ERROR and _takes(each, record) for each in own)


def _takes(handler: logging.Handler, record: logging.LogRecord) -> bool:
    return record.levelno >= handler.level and bool(handler.filter(record))


class RootLog:
    """The loan of the root logger: `handler` and `level` are ours. The level is lent at once, so that a configuration
    that names none keeps it; not to a root logger that has a handler already.

    Workers that are threads boot at different times; the loan waits for all of them.
    """

    def __init__(self, handler: logging.Handler, level: int) -> None:
        self.handler = handler
        self._booting = 0
        self._lock = threading.Lock()
        handler.addFilter(UnshownOnly())
        if not logging.root.handlers:
            logging.root.setLevel(LentLevel(level))

    def open(self) -> None:
        """Leave the root logger to an application that boots now; `settle` must follow."""
        with self._lock:
            self._booting += 1
            logging.lastResort = self.handler
            logging.root.removeHandler(self.handler)
            if not logging.root.handlers and isinstance(logging.root.level, LentLevel):
                # The application's first handler gets the lines from WARNING on, as with any other server, and from
                # the first line on. No other hook sees all of basicConfig, dictConfig, fileConfig and addHandler.
                vars(logging.root)["addHandler"] = self._add_first

    def settle(self) -> None:
        """Add our handler if the booted application has none; otherwise nothing of ours stays."""
        with self._lock:
            self._booting = max(0, self._booting - 1)
            if self._booting:
                return
            self._unhook()
            if not logging.root.handlers:
                logging.root.addHandler(self.handler)
            elif self.handler not in logging.root.handlers:
                self._take_back_level()

    def _add_first(self, handler: logging.Handler) -> None:
        self._unhook()
        self._take_back_level()
        logging.root.addHandler(handler)

    def _unhook(self) -> None:
        vars(logging.root).pop("addHandler", None)

    def _take_back_level(self) -> None:
        if isinstance(logging.root.level, LentLevel):
            logging.root.setLevel(logging.WARNING)


_root_log: RootLog | None = None


def keep_level() -> None:
    """Leave our level to the root logger for good if it has handlers by now."""
    if logging.root.handlers:
        logging.root.setLevel(int(logging.root.level))


def lend_root(root_log: RootLog) -> None:
    """Use `root_log` in this process, from now on."""
    global _root_log
    _root_log = root_log
    root_log.settle()


def application_boots() -> None:
    """Leave the root logger to the application, which is imported next. Do nothing where logs are not ours."""
    if _root_log is not None:
        _root_log.open()


def application_booted() -> None:
    """The application has configured what it wants: lend the root logger our handler, if it has none."""
    if _root_log is not None:
        keep_speakers()
        _root_log.settle()
