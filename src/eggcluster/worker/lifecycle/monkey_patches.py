"""Refuses an application that replaces Python's threads, on which a worker runs. Runs in agent and app workers."""

import sys
from collections.abc import Callable

from eggcluster.errors import BootError

REFUSAL = (
    "the application calls {}, which replaces Python's threads with greenlets; a worker runs an asyncio event loop and "
    "threads, so leave the call out: a plain function, a WSGI application too, has threads of its own (--threads)"
)
# The module that patches, its name for the error line, and the function that tells whether it has patched the threads.
PATCHERS: tuple[tuple[str, str, str, str], ...] = (
    ("gevent.monkey", "gevent's monkey.patch_all()", "is_module_patched", "threading"),
    ("eventlet.patcher", "eventlet's monkey_patch()", "is_monkey_patched", "thread"),
)


def refuse_patched_threads() -> None:
    """Raise BootError, in one line, if the application has replaced the threads."""
    for module, call, function, threads in PATCHERS:
        is_patched: Callable[[str], bool] | None = getattr(sys.modules.get(module), function, None)
        if is_patched is not None and is_patched(threads):
            # The threads that run already cannot end in order any more; each would print a traceback of its own.
            sys.unraisablehook = lambda _: None
            raise BootError(REFUSAL.format(call))
