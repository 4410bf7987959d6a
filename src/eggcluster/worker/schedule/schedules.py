"""`app.schedule` and `agent.schedule`: which functions are scheduled here, and on which terms. Runs in all workers."""

from collections.abc import Callable
from copy import copy
from typing import Any, NamedTuple, Self, TypeVar, Unpack

from eggcluster.errors import DeclarationError
from eggcluster.model.schedule.declaration import check_name, check_runs, is_function
from eggcluster.model.schedule.schedule_terms import SAY_WHEN, GivenTerms, Interval, ScheduleTerms, check_terms
from eggcluster.packing import encode
from eggcluster.wording import short
from eggcluster.worker.function_calls import function_name, function_place
from eggcluster.worker.schedule.clock import Clock, times_of
from eggcluster.worker.schedule.strategy import ScheduleStrategy

_F = TypeVar("_F", bound=Callable[..., Any])
_S = TypeVar("_S", bound=type[ScheduleStrategy])


class Task(NamedTuple):
    """A scheduled function of this process."""

    terms: ScheduleTerms
    function: Callable[..., Any]


class Schedules:
    """A decorator that registers functions; `type` is the default type."""

    def __init__(self, type: str) -> None:
        self._type = type
        self._closed = False
        self.clock = Clock()
        self.tasks: dict[str, Task] = {}

    def __call__(self, interval: Interval | None = None, **given: Unpack[GivenTerms]) -> Callable[[_F], _F]:
        """Call the decorated function, async or plain (in a thread), every `interval` ("500ms", "10s", "5m", "2h",
        "1d", seconds, a timedelta), or at the times of `cron`; docs/schedule.md has all terms.

        Return the function itself. Raise DeclarationError, which names the function, for invalid terms, for an object
        that does not run when it is called, and after the worker has started.
        """
        if callable(interval):  # decorated without brackets
            raise DeclarationError(f"schedule {function_place(interval)}: {SAY_WHEN}")

        def decorate(function: _F) -> _F:
            self._add(function, interval, given)
            return function

        return decorate

    def copy(self) -> Self:
        """Return a copy for another worker, which may register more."""
        other = copy(self)
        other.tasks, other._closed = dict(self.tasks), False
        return other

    def close_registration(self) -> None:
        """Refuse further registrations: the agent knows the tasks now."""
        self._closed = True

    def _add(self, function: Callable[..., Any], interval: Interval | None, given: GivenTerms) -> None:
        if not is_function(function):
            raise DeclarationError(f"schedule: {short(function)} is not a function")
        written_at = function_place(function)
        try:
            check_runs(function)
            terms = check_terms(function_name(function), written_at, self._type, interval, given)
            self._check(terms)
        except ValueError as error:
            raise DeclarationError(f"schedule {written_at}: {error}") from None
        self.tasks[terms.name] = Task(terms, function)

    def _check(self, terms: ScheduleTerms) -> None:
        if self._closed:
            raise ValueError("too late: register schedules before on_start is done")
        if (terms.type == "agent") is not (self._type == "agent"):
            raise ValueError(f'type="{terms.type}" is not for {"agent" if self._type == "agent" else "app"}.schedule')
        if terms.name in self.tasks:
            other = self.tasks[terms.name].terms.function
            raise ValueError(f'"{terms.name}" is also the name of {other}: give one of them another name=')
        now = self.clock.wall()
        times = times_of(terms, now)
        if times is not None and times.after(now) is None:
            raise ValueError(f"cron={short(terms.cron)} never comes due")
        try:
            encode(terms.plain())
        except (TypeError, OverflowError, ValueError, RecursionError) as error:  # the terms are sent to the agent
            raise ValueError(f"MessagePack cannot carry its terms: {error}") from None


class AgentSchedules(Schedules):
    """`agent.schedule`, which also holds the types."""

    def __init__(self) -> None:
        super().__init__("agent")
        self.strategies: dict[str, type[ScheduleStrategy]] = {}

    def use(self, name: str, strategy: type[ScheduleStrategy] | None = None) -> Any:
        """Register a type of tasks for `@app.schedule(type=name)`; without the class, return a decorator for it.

        Raise DeclarationError for a name that is taken or not printable, for a class that is not a
        ScheduleStrategy, and after the agent has started.
        """
        if isinstance(name, type):  # decorated without brackets
            raise DeclarationError(f'schedule type {name.__qualname__}: give it a name: agent.schedule.use("name")')

        def decorate(strategy: _S) -> _S:
            try:
                self._check_type(check_name(name), strategy)
            except ValueError as error:
                raise DeclarationError(f"schedule type {short(name)}: {error}") from None
            self.strategies[name] = strategy
            return strategy

        return decorate if strategy is None else decorate(strategy)

    def _check_type(self, name: str, strategy: Any) -> None:
        if self._closed:
            raise ValueError("too late: register types before on_start is done")
        if name in ("agent", "worker", "all", *self.strategies):
            raise ValueError("this name is taken: choose another one")
        if not (isinstance(strategy, type) and issubclass(strategy, ScheduleStrategy)):
            raise ValueError(f"{short(strategy)} is not a subclass of ScheduleStrategy")
