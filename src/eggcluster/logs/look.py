"""How a log line looks in a file, a pipe or on a terminal. Runs in the master and in every worker.

On a terminal the prefix is short and the level has a colour. The record must have a `speaker`, the name in brackets.
"""

import logging
from enum import Enum, auto

from eggcluster.kernel.terminal import has_colours, is_terminal, styled

FILE_FORMAT = "%(asctime)s %(levelname)s %(process)d [%(speaker)s] %(message)s"
TERMINAL_FORMAT = "%(asctime)s %(level)s %(speaker)s: %(message)s"
STYLES = {"DEBUG": "dim", "INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
LEVEL_WIDTH = len("WARNING")


class Look(Enum):
    """FILE: `2026-11-22 11:42:07,123 INFO 4711 [app_worker#2] text`. TERMINAL: `11:42:07 INFO    app_worker#2: text`;
    COLOURS: the same, the level in colour."""

    FILE = auto()
    TERMINAL = auto()
    COLOURS = auto()


def look_of(fd: int) -> Look:
    """Return how lines on `fd` look: without colours if NO_COLOR is set, whole if `fd` is no terminal."""
    if not is_terminal(fd):
        return Look.FILE
    return Look.COLOURS if has_colours(fd) else Look.TERMINAL


class LookFormatter(logging.Formatter):
    """Formats a record in one of the looks."""

    def __init__(self, look: Look) -> None:
        on_terminal = look is not Look.FILE
        super().__init__(TERMINAL_FORMAT if on_terminal else FILE_FORMAT, datefmt="%H:%M:%S" if on_terminal else None)
        self._look = look

    def formatMessage(self, record: logging.LogRecord) -> str:
        if self._look is not Look.FILE:
            level = f"{record.levelname:<{LEVEL_WIDTH}}"
            record.level = styled(level, STYLES.get(record.levelname, "")) if self._look is Look.COLOURS else level
        return super().formatMessage(record)
