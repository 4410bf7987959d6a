"""Log lines: their speaker, format and level. Runs in the master and in every worker."""

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from eggcluster.errors import OptionsError
from eggcluster.kernel.nonblocking_output import NonblockingOutput
from eggcluster.kernel.per_worker import PerWorker
from eggcluster.log_handler import LogHandler
from eggcluster.wording import shown

if TYPE_CHECKING:
    from eggcluster.options import ResolvedOptions


class Speaker(NamedTuple):
    """The source of log lines, where workers share a process: the name in brackets, the worker id, the lowest level."""

    name: str
    worker_id: int
    level: int


_speaker: PerWorker[Speaker | None] = PerWorker("eggcluster.speaker", None)


def set_speaker(name: str, worker_id: int, level: str) -> None:
    """Log in that worker's name from now on, in this thread and in contexts that are copied from its own."""
    _speaker.bind(Speaker(name, worker_id, logging.getLevelNamesMapping()[level]))


def _add_speaker(record: logging.LogRecord, default: str) -> None:
    """Set the record's speaker; `default` if the process has only one."""
    speaker = _speaker.get()
    record.speaker = default if speaker is None else speaker.name
    if speaker is not None:
        record.process = speaker.worker_id


class TextFormatter(logging.Formatter):
    """Formats a record as `2026-11-22 11:42:07,123 INFO 4711 [app_worker#2] text`."""

    def __init__(self, speaker: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(process)d [%(speaker)s] %(message)s")
        self._speaker = speaker

    def format(self, record: logging.LogRecord) -> str:
        _add_speaker(record, self._speaker)
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time (UTC), level, pid, speaker, logger, message, traceback."""

    def __init__(self, speaker: str) -> None:
        super().__init__()
        self._speaker = speaker

    def format(self, record: logging.LogRecord) -> str:
        from eggcluster.packing import encode_json

        _add_speaker(record, self._speaker)
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
            return encode_json(line).decode()
        except UnicodeEncodeError:  # a lone surrogate in the message
            line["message"] = record.getMessage().encode("utf-8", "backslashreplace").decode()
            return encode_json(line).decode()


class _LevelFilter(logging.Filter):
    """Applies each speaker's own level; `level` is the master's."""

    def __init__(self, level: str) -> None:
        super().__init__()
        self._level = logging.getLevelNamesMapping()[level]

    def filter(self, record: logging.LogRecord) -> bool:
        speaker = _speaker.get()
        return record.levelno >= (self._level if speaker is None else speaker.level)


def configure_logs(options: "ResolvedOptions", speaker: str, level: str) -> LogHandler:
    """Send this process's log to standard error, then apply `log_config`. Call it once, before the first log line.

    `speaker` is the name in brackets: `master`, `agent_worker`, `app_worker#2`. Return the handler of standard error;
    call its `run_in` once the event loop runs. OptionsError if `log_config` is wrong.
    """
    handler = LogHandler(NonblockingOutput(2))
    handler.setFormatter((JsonFormatter if options.log_format == "json" else TextFormatter)(speaker))
    if options.start_mode == "thread":  # the other workers' lines come here, too
        handler.addFilter(_LevelFilter(level))
        levels = logging.getLevelNamesMapping()
        level = min(level, options.agent_log_level, options.app_log_level, key=lambda each: levels[each])
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, logging.getLogger().level))
    if options.log_config:
        try:
            _load(options.log_config)
        except Exception as error:  # a handler's own class may raise anything
            causes = [str(each) or type(each).__name__ for each in (error, error.__cause__) if each is not None]
            why = " ".join(": ".join(causes).split())
            raise OptionsError(
                f"log_config: {shown(options.log_config)} is not a logging configuration: {why}"
            ) from None
    return handler


def _load(path: str) -> None:
    """Apply a logging configuration: a dictConfig in a JSON file, or an ini file, as other servers do."""
    import logging.config

    if path.endswith(".json"):
        import json

        with open(path, encoding="utf-8") as file:
            logging.config.dictConfig(json.load(file))
    else:
        logging.config.fileConfig(path, disable_existing_loggers=False)
