"""The speaker of a log line: which of the cluster's processes, or threads, wrote it. Runs in master and workers.

Each record carries it as an attribute, so that the application's own formats may have `%(speaker)s`, too.
"""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from eggcluster.kernel.per_worker import PerWorker


class Speaker(NamedTuple):
    """The source of log lines, where workers share a process: the name in brackets, the worker id, the lowest level."""

    name: str
    worker_id: int
    level: int


speaker_here: PerWorker[Speaker | None] = PerWorker("eggcluster.speaker", None)
_process_speaker = "-"  # the speaker of a process that has only one
_factory: Callable[..., logging.LogRecord] | None = None  # the one that `name_speakers` has installed


def set_speaker(name: str, worker_id: int, level: str) -> None:
    """Log in that worker's name from now on, in this thread and in contexts that are copied from its own."""
    speaker_here.bind(Speaker(name, worker_id, logging.getLevelNamesMapping()[level]))


def name_speakers(default: str) -> None:
    """Set `speaker` in all records that this process makes from now on; `default` is what the process is itself."""
    global _process_speaker
    _process_speaker = default
    keep_speakers()


def keep_speakers() -> None:
    """Set it still, if the application has installed a record factory of its own; records are made by that one."""
    global _factory
    make = logging.getLogRecordFactory()
    if make is _factory:
        return

    def make_with_speaker(*args: Any, **more: Any) -> logging.LogRecord:
        record = make(*args, **more)
        add_speaker(record)
        return record

    _factory = make_with_speaker
    logging.setLogRecordFactory(make_with_speaker)


def add_speaker(record: logging.LogRecord) -> None:
    """Set the record's `speaker`, and for a worker that is a thread its id as `process`; unless it has one."""
    if hasattr(record, "speaker"):
        return
    speaker = speaker_here.get()
    record.speaker = _process_speaker if speaker is None else speaker.name
    if speaker is not None:
        record.process = speaker.worker_id


class SpeakerLevel(logging.Filter):
    """Applies each speaker's own level, where workers share a process; `level` is the master's."""

    def __init__(self, level: str) -> None:
        super().__init__()
        self._level = logging.getLevelNamesMapping()[level]

    def filter(self, record: logging.LogRecord) -> bool:
        speaker = speaker_here.get()
        return record.levelno >= (self._level if speaker is None else speaker.level)
