"""The handlers of messages and requests, by action. Runs in all workers and the parent."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

Handler = Callable[[Any], Any]


class Handlers:
    """The handlers of each action, in the order of their registration: the registry behind `on`, `once` and `off`.

    A function may be registered once per action.
    """

    def __init__(self) -> None:
        self._by_action: dict[str, dict[Handler, bool]] = {}  # handler -> whether it is called only once
        self._lasting: dict[str, list[Handler]] = {}  # a cache, for actions without a handler that is called only once
        self.plain: dict[str, list[Handler]] = {}  # those of them whose handlers all begin when they are called
        self._answers_in_task: dict[str, bool] = {}  # a cache

    def add(self, action: str, handler: Handler, *, once: bool = False) -> None:
        """Register a handler; TypeError if it cannot be called with one argument, or the action is not a string."""
        if not isinstance(action, str):
            raise TypeError(f"an action is a string, not {action!r}")
        check_handler(handler)
        self._forget_cached(action)
        self._by_action.setdefault(action, {})[handler] = once

    def discard(self, action: str, handler: Handler | None = None) -> None:
        """Remove one handler of the action, or (None) all of them. A handler that is not registered is no error."""
        self._forget_cached(action)
        if handler is None:
            self._by_action.pop(action, None)
        elif action in self._by_action:
            self._by_action[action].pop(handler, None)
            self._tidy(action)

    def take(self, action: str) -> list[Handler]:
        """Return the handlers to call now, and remove those that are called only once."""
        lasting = self._lasting.get(action)
        if lasting is not None:
            return lasting
        registered = self._by_action.get(action)
        if not registered:
            return []
        handlers = list(registered)
        if not any(registered.values()):
            self._lasting[action] = handlers
            if not any(map(begins_in_task, handlers)):
                self.plain[action] = handlers
            return handlers
        for handler in handlers:
            if registered[handler]:
                del registered[handler]
        self._forget_cached(action)
        self._tidy(action)
        return handlers

    def answers_in_task(self, action: str) -> bool:
        """Return whether the handler that answers a request of this action begins in a task."""
        answer = self._answers_in_task.get(action)
        if answer is None:
            handler = next(iter(self._by_action.get(action, ())), None)
            answer = handler is not None and begins_in_task(handler)
            if handler is not None:  # an application may ask for any action
                self._answers_in_task[action] = answer
        return answer

    def _forget_cached(self, action: str) -> None:
        self._lasting.pop(action, None)
        self.plain.pop(action, None)
        self._answers_in_task.pop(action, None)

    def _tidy(self, action: str) -> None:
        """Remove an action without handlers: an application may invent a new action for each answer."""
        if not self._by_action[action]:
            del self._by_action[action]


def check_handler(handler: Handler) -> None:
    """Raise TypeError if `handler` cannot take exactly one argument, the data."""
    if not callable(handler):
        raise TypeError(f"a handler is a function of one argument, the data, not {handler!r}")
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return  # some built-in functions have no signature
    try:
        signature.bind(None)
    except TypeError:
        name = getattr(handler, "__qualname__", repr(handler))
        raise TypeError(f"{name}{signature} cannot be a handler: it must take one argument, the data") from None


def begins_in_task(handler: Handler) -> bool:
    """Return whether calling `handler` runs none of its lines yet: it is an async function or method, with nothing
    around it but `functools.partial`."""
    while isinstance(handler, partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    if not hasattr(function, "__code__"):
        function = getattr(type(handler), "__call__", None)  # noqa: B004 - an object whose class has an async __call__
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_COROUTINE)
