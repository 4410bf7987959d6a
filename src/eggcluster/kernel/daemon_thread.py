"""Threads that nobody waits for. Runs anywhere."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any


def start_daemon(target: Callable[..., Any], *args: Any, name: str) -> threading.Thread:
    """Start a thread that does not hold up the end of the process. A subinterpreter has no such threads: there its end
    waits for this one, too, so whoever starts it should tell it when it is over."""
    thread = threading.Thread(target=target, args=args, name=name)
    with contextlib.suppress(RuntimeError):
        thread.daemon = True
    thread.start()
    return thread
