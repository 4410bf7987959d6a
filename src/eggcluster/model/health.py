"""Egg's check of the whole: three looks in a row at an empty house end it. Pure.

Unlike Egg's it has patience with who is just booting: an application that loads its models for half a minute must not
be lost because its only worker died once.
"""

CHECK_INTERVAL = 10.0  # seconds between two looks at whether anybody serves; Egg's
CHECKS_FAILED = 3  # looks in a row with nobody there before the cluster gives up; Egg's


class HealthCheck:
    """Counts the looks that found nobody. `due` is the instant of the next one, None while there is none."""

    def __init__(self) -> None:
        self.due: float | None = None
        self._without_app = 0
        self._without_agent = 0

    def begin(self, now: float) -> None:
        self.due = now + CHECK_INTERVAL

    def put_off(self, seconds: float) -> None:
        if self.due is not None:
            self.due += seconds

    def end(self) -> None:
        self.due = None

    def look(self, now: float, *, apps: bool, booting: bool, agent: bool) -> None:
        """Note who is there: an app worker that listens, or one that boots as usual, and an agent."""
        self.due = now + CHECK_INTERVAL
        if apps:
            self._without_app = 0
        elif not booting:
            self._without_app += 1
        self._without_agent = 0 if agent else self._without_agent + 1

    @property
    def no_app(self) -> bool:
        """For three looks in a row no app worker has been listening."""
        return self._without_app >= CHECKS_FAILED

    @property
    def no_agent(self) -> bool:
        return self._without_agent >= CHECKS_FAILED
