"""A process of ours as logging sees it: configured, booted, then put back as it was. No process, no socket."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from eggcluster import logs
from eggcluster.logs import own_loggers, root_log, speaker

OPTIONS = {
    "log_format": "text",
    "log_config": None,
    "start_mode": "process",
    "base_dir": ".",
    "agent_log_level": "INFO",
    "app_log_level": "INFO",
}


class LoggedProcess:
    """A process whose standard error is a file: `start` is its first step, `boot` runs an application's set-up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stderr = folder / "stderr.log"

    def start(self, speaker: str = "app_worker#1", level: str = "INFO", **options: Any) -> None:
        chosen: Any = SimpleNamespace(**{**OPTIONS, **options})
        logs.configure_logs(chosen, speaker, level)

    def boot(self, configure: Callable[[], object] = lambda: None) -> None:
        logs.application_boots()
        configure()
        logs.application_booted()

    @property
    def lines(self) -> list[str]:
        """Standard error so far, without times, pids and levels: `[app_worker#1] text`."""
        return [line[line.find("[") :] if " [" in line else line for line in self.text.splitlines()]

    @property
    def text(self) -> str:
        return self._stderr.read_text()

    def file(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""


@contextmanager
def logged_process(folder: Path) -> Iterator[LoggedProcess]:
    """Lend this process's logging, and its standard error, to a process under test."""
    with ExitStack() as restore:
        for module, name in ((own_loggers, "_fallback"), (root_log, "_root_log"), (speaker, "_factory")):
            restore.callback(setattr, module, name, getattr(module, name))
        restore.callback(setattr, speaker, "_process_speaker", speaker._process_speaker)
        restore.callback(_put_back, _loggers())
        manager = logging.root.manager
        restore.callback(setattr, manager, "loggerDict", manager.loggerDict)
        # Loggers that the test makes are gone with it; those of ours are there, because modules hold them.
        manager.loggerDict = {name: each for name, each in manager.loggerDict.items() if name.startswith("eggcluster")}
        restore.callback(logging.setLogRecordFactory, logging.getLogRecordFactory())
        restore.callback(setattr, logging, "lastResort", logging.lastResort)
        restore.callback(vars(logging.root).pop, "addHandler", None)
        restore.callback(logging.disable, manager.disable)
        logging.root.handlers, logging.root.level = [], logging.WARNING  # pytest has handlers there
        manager._clear_cache()  # type: ignore[attr-defined]
        output = os.open(folder / "stderr.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        was = os.dup(2)
        os.dup2(output, 2)
        os.close(output)
        restore.callback(os.close, was)
        restore.callback(os.dup2, was, 2)
        yield LoggedProcess(folder)


def _loggers() -> dict[logging.Logger, dict[str, Any]]:
    """Every logger with what a configuration may change."""
    every = [logging.root, *logging.root.manager.loggerDict.values()]
    return {
        each: {**vars(each), "handlers": [*each.handlers], "__class__": type(each)}
        for each in every
        if isinstance(each, logging.Logger)
    }


def _put_back(before: dict[logging.Logger, dict[str, Any]]) -> None:
    for logger, state in before.items():
        for name in ("handlers", "level", "propagate", "disabled", "parent", "__class__"):
            setattr(logger, name, state[name])
    logging.root.manager._clear_cache()  # type: ignore[attr-defined]
