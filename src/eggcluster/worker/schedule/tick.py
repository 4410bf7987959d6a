"""Which tick the running function is called for. Runs in the worker."""

from contextvars import ContextVar

_due: ContextVar[float | None] = ContextVar("scheduled_for", default=None)


def scheduled_for() -> float | None:
    """In a scheduled function, and in what it calls: the instant for which it runs, in Unix seconds; else None.

    Name and instant identify a tick: with them an outside system can tell a repetition (`retry`) from a new one.
    """
    return _due.get()


def set_scheduled_for(due: float) -> None:
    """What runs in this task from now on runs for that instant."""
    _due.set(due)
