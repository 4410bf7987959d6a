"""Who listens to which action: the registry behind a messenger's `on`, `once` and `off`. Pure bookkeeping."""

import inspect
from collections.abc import Callable
from typing import Any

Handler = Callable[[Any], Any]


class Handlers:
    """Handlers by action, in the order of their registration; the same function may be registered once an action."""

    def __init__(self) -> None:
        self._by_action: dict[str, dict[Handler, bool]] = {}  # handler -> only once?
        # The same, where nobody is registered for once only: the short way for a flood.
        self._lasting: dict[str, list[Handler]] = {}

    def add(self, action: str, handler: Handler, *, once: bool = False) -> None:
        """Register; TypeError where the handler cannot be called with the data alone."""
        if not isinstance(action, str):
            raise TypeError(f"an action is a string, not {action!r}")
        check_handler(handler)
        self._lasting.pop(action, None)
        self._by_action.setdefault(action, {})[handler] = once

    def discard(self, action: str, handler: Handler | None = None) -> None:
        """Forget one handler of the action, or all where None; one that is not there is no error."""
        self._lasting.pop(action, None)
        if handler is None:
            self._by_action.pop(action, None)
        elif action in self._by_action:
            self._by_action[action].pop(handler, None)
            self._tidy(action)

    def take(self, action: str) -> list[Handler]:
        """The handlers to call now; those registered for once are forgotten."""
        lasting = self._lasting.get(action)
        if lasting is not None:
            return lasting
        registered = self._by_action.get(action)
        if not registered:
            return []
        handlers = list(registered)
        if not any(registered.values()):
            self._lasting[action] = handlers
            return handlers
        for handler in handlers:
            if registered[handler]:
                del registered[handler]
        self._tidy(action)
        return handlers

    def _tidy(self, action: str) -> None:
        """Actions may be made up for one answer each: an action without handlers must not stay."""
        if not self._by_action[action]:
            del self._by_action[action]


def check_handler(handler: Handler) -> None:
    """TypeError where `handler` cannot take exactly one argument, the data."""
    if not callable(handler):
        raise TypeError(f"a handler is a function of one argument, the data, not {handler!r}")
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return  # some built-in functions do not tell
    try:
        signature.bind(None)
    except TypeError:
        name = getattr(handler, "__qualname__", repr(handler))
        raise TypeError(f"{name}{signature} is no handler: it must take one argument, the data") from None
