"""The settings that the supervisor decides by. Pure."""

from dataclasses import dataclass, field

from eggcluster.model.lives.recycling import RecycleLimits


@dataclass(frozen=True)
class SupervisorSettings:
    """What the supervisor has to know of the options. All times are seconds."""

    workers: int
    app_start_timeout: float = 60.0
    agent_start_timeout: float = 60.0
    app_close_timeout: float = 5.0
    agent_close_timeout: float = 5.0
    close_timeout: float = 15.0
    worker_timeout: float = 0.0  # without a heartbeat, then an app worker counts as hung; 0: never
    agent_timeout: float = 0.0
    limits: RecycleLimits = field(default_factory=RecycleLimits)
    replace_apps: bool = True
    strict: bool = False

    @property
    def close_limit(self) -> float:
        """The limit of the whole closing; it always leaves the app workers and the agent their own time."""
        return max(self.close_timeout, self.app_close_timeout + self.agent_close_timeout + 5.0)

    def grace(self, slot: int) -> float:
        """Return how long the worker of this slot may take to close; slot 0 is the agent's."""
        return self.app_close_timeout if slot else self.agent_close_timeout

    def hang_timeout(self, slot: int) -> float:
        """Return after how long without a heartbeat the worker of this slot counts as hung; 0: never."""
        return self.worker_timeout if slot else self.agent_timeout
