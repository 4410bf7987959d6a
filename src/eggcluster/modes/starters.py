"""The start modes by name: how each starts a worker, and how the log describes it. Runs in the master."""

import logging
import os
import sys
from collections.abc import Callable

from eggcluster.modes.starter import Starter

_logger = logging.getLogger("eggcluster.master")


def in_words(start_mode: str) -> str:
    """Return what the workers are, for the log; for threads, also whether they run in parallel."""
    if start_mode == "interpreter":
        return " in interpreters of their own"
    if start_mode == "thread":
        # Python 3.13 and later can tell; earlier versions always have a GIL.
        one_at_a_time = getattr(sys, "_is_gil_enabled", lambda: True)()
        return " as threads, of which the GIL lets one run at a time" if one_at_a_time else " as threads"
    return ""


def starter_of(start_mode: str, on_settled: Callable[[], None] | None = None, *, preload: bool = False) -> Starter:
    """Return what starts workers in that mode. Only the mode in use is loaded.

    With `on_settled`, this process adopts orphans, so workers that are processes can be forked from a template.
    `on_settled` is called when one of them is no longer pending. EGG_NO_TEMPLATE=1 prevents the template. With
    `preload` the app workers come from a template that has imported the application.
    """
    if start_mode == "thread":
        from eggcluster.modes.thread import start_by_worker_threads

        return Starter(start_by_worker_threads)
    if start_mode == "interpreter":
        from eggcluster.modes.interpreter import start_by_interpreters

        return Starter(start_by_interpreters)
    assert start_mode == "process"
    if on_settled is not None and sys.platform == "linux" and os.environ.get("EGG_NO_TEMPLATE") != "1":
        if preload:
            from eggcluster.modes.preload_starter import PreloadStarter

            return PreloadStarter(on_settled)
        from eggcluster.modes.template_starter import TemplateStarter

        return TemplateStarter(on_settled)
    if preload:
        _logger.warning("preload has no effect: without a template, each worker imports the application")
    from eggcluster.modes.process import start_by_process

    return Starter(start_by_process)
