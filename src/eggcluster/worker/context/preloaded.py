"""What a template has imported, as a worker that is forked from it finds it. Runs in templates and app workers."""

from dataclasses import dataclass
from typing import Any

from eggcluster.logs import LogHandler


@dataclass(frozen=True)
class Preloaded:
    """The application that the template has imported, or why it could not. `loaded_at` is the instant of
    CLOCK_MONOTONIC at which the import began; `log_handler` writes the log of the process."""

    app: Any
    error: BaseException | None
    loaded_at: float
    log_handler: LogHandler

    def take(self) -> Any:
        """Return the application. In the place of its import, raise what that has raised."""
        if self.error is not None:
            raise self.error
        return self.app
