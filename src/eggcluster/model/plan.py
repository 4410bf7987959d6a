"""The options that the supervisor's decisions depend on. Pure."""

from dataclasses import dataclass, field

from eggcluster.model.wear import Limits


@dataclass(frozen=True)
class Plan:
    """How a cluster is to live. All times in seconds."""

    workers: int
    app_start_timeout: float = 60.0
    agent_start_timeout: float = 60.0
    app_close_timeout: float = 5.0
    agent_close_timeout: float = 5.0
    close_timeout: float = 15.0
    worker_timeout: float = 0.0  # for which an app worker's loop may stand still; 0: for ever
    agent_timeout: float = 0.0
    limits: Limits = field(default_factory=Limits)
    replace_apps: bool = True
    strict: bool = False

    @property
    def close_limit(self) -> float:
        """The whole closing's limit: never so short that the two parts of it could not have theirs."""
        return max(self.close_timeout, self.app_close_timeout + self.agent_close_timeout + 5.0)

    def grace(self, slot: int) -> float:
        """What the worker of this slot has to close; slot 0 is the agent's."""
        return self.app_close_timeout if slot else self.agent_close_timeout

    def patience(self, slot: int) -> float:
        """For how long its loop may stand still."""
        return self.worker_timeout if slot else self.agent_timeout
