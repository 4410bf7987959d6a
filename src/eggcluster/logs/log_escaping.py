"""Foreign text in the log lines of this package, whichever handlers write them. Runs in the master and in workers.

The loggers escape it, not a formatter: a `log_config`, or the program around `start_cluster`, may have formatters of
its own. Which logger escapes what is in `own_loggers.py`.
"""

import logging
from collections.abc import Mapping
from typing import Any

from eggcluster.wording import indented, one_line


class Report(str):
    """An argument of a log call that has several lines, such as a stack: those after the first are indented."""


def escape_record(record: logging.LogRecord) -> bool:
    """Escape the arguments and the traceback of a record; its template is ours. Return True: the record is logged."""
    if isinstance(record.args, tuple):
        record.args = tuple(map(_fit, record.args))
    elif isinstance(record.args, Mapping):
        record.args = {name: _fit(value) for name, value in record.args.items()}
    return escape_traceback(record)


def escape_traceback(record: logging.LogRecord) -> bool:
    """Indent the traceback of a record: an exception's text may have lines that look like log lines. Return True."""
    if isinstance(record.exc_info, tuple) and record.exc_info[0] is not None and not record.exc_text:
        record.exc_text = indented(logging.Formatter().formatException(record.exc_info))
    return True


def _fit(value: Any) -> Any:
    if isinstance(value, int | float):
        return value
    if isinstance(value, Report):
        first, newline, rest = value.partition("\n")
        return one_line(first) + newline + (indented(rest) if newline else "")
    text = _text(value)
    return value if text.isprintable() else one_line(text)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # the handler reports it, as an invalid logging call
        return ""
