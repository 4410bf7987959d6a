"""The two forms of a log line: text and JSON. Runs in the master and in every worker."""

import logging
import time

from eggcluster.logs.look import LookFormatter, look_of
from eggcluster.logs.speaker import add_speaker
from eggcluster.wording import json_line


class TextFormatter(LookFormatter):
    """Formats a record as `2026-11-22 11:42:07,123 INFO 4711 [app_worker#2] text`, or as a terminal shows it."""

    def format(self, record: logging.LogRecord) -> str:
        add_speaker(record)  # a record that was not made by `logging`, or by a factory of the application's own
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time (UTC), level, pid, speaker, logger, message, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        from eggcluster.packing import encode_json

        add_speaker(record)
        line = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "pid": record.process,
            "speaker": record.__dict__["speaker"],
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            return json_line(encode_json(line).decode())
        except UnicodeEncodeError:  # a lone surrogate, in the message or in an exception's text
            fit = {name: str(value).encode("utf-8", "backslashreplace").decode() for name, value in line.items()}
            return json_line(encode_json({**fit, "pid": record.process}).decode())


def formatter_for(log_format: str) -> logging.Formatter:
    """Return a new formatter of the option `log_format`, for standard error. Nothing that is done to it concerns
    another handler."""
    return JsonFormatter() if log_format == "json" else TextFormatter(look_of(2))
