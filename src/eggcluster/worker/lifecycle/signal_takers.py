"""Finds what has taken a signal from the worker: the application or a library. Runs in agent and app workers.

A process has one handler for a signal, so the last one that is set wins, with `signal.signal` or with
`loop.add_signal_handler`.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

from eggcluster.wording import described, short

LOOPS = ("asyncio.", "uvloop.")  # whose own handler stands for one that was given to `loop.add_signal_handler`

_logger = logging.getLogger("eggcluster.worker")


class SignalTakers:
    """Knows the handlers of this process. Call all but `follow` in the main thread."""

    def __init__(self) -> None:
        self._by_loop: dict[int, Callable[..., Any]] = {}

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note from now on what is given to `loop.add_signal_handler`: a loop does not tell it."""
        add = loop.add_signal_handler

        def add_signal_handler(sig: int, callback: Callable[..., Any], *args: Any) -> None:
            add(sig, callback, *args)
            self._by_loop[sig] = callback

        loop.add_signal_handler = add_signal_handler  # type: ignore[assignment, method-assign]

    def of(self, number: int, own: Callable[..., Any]) -> str | None:
        """Return in some words what has become of `number`, whose handler was `own`; None if it still is, as far as
        Python knows: code in C is not seen."""
        handler = signal.getsignal(number)
        if handler == own:
            return None
        if handler is signal.SIG_DFL:
            return "its default action was restored"
        if handler is signal.SIG_IGN:
            return "it is ignored"
        if f"{getattr(handler, '__module__', '')}.".startswith(LOOPS):
            return f"loop.add_signal_handler gave it to {place_of(self._by_loop.get(number, handler))}"
        return f"{place_of(handler)} has taken it"

    def pass_on(self, number: signal.Signals) -> None:
        """Let a handler of the application hear the signal, although none was sent. What it raises is logged. The
        default action, which ends the process, is not taken."""
        if not callable(signal.getsignal(number)):
            return
        try:
            signal.raise_signal(number)
        except BaseException as error:
            _logger.warning("the application's handler of %s raised %s; closing goes on", number.name, described(error))


def place_of(function: Any) -> str:
    """Return a function's name and, if it has one, the place of its code: `app.on_term (/srv/app.py:7)`."""
    function = getattr(function, "func", function)  # of functools.partial
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    name = getattr(function, "__qualname__", None)
    named = short(function) if name is None else f"{getattr(function, '__module__', None) or '?'}.{name}"
    return f"{named} ({code.co_filename}:{code.co_firstlineno})" if code is not None else named
