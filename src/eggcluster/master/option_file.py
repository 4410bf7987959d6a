"""Tells at a reload which options have changed in their file: they stay as started. Runs in the master.

A reload cannot take them: the listening sockets, the number of slots and every limit of the master are made once, and
the file is only one of the sources from which `parse_options` has chosen.
"""

import asyncio
import contextlib
from collections.abc import Callable

from eggcluster.kernel.threads import start_daemon
from eggcluster.options.sources import Source, from_file


class OptionFile:
    """The options in the base directory's file, as they were at the start."""

    def __init__(self, base_dir: str) -> None:
        self._base_dir = base_dir
        self._at_start = from_file(base_dir)

    def look(self, tell: Callable[[str], None]) -> None:
        """Pass a line to `tell` if the file says something else now. Return at once.

        The file is read in a daemon thread, because a disk may be slow. Where no thread can be started (pids.max), the
        line is left out.
        """
        loop = asyncio.get_running_loop()

        def compare() -> None:
            if text := difference(self._at_start, from_file(self._base_dir)):
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(tell, text)

        with contextlib.suppress(RuntimeError):
            start_daemon(compare, name="egg-options")


def difference(before: Source, now: Source) -> str:
    """Return a line on the options that the file gives in another way now, "" if there are none."""
    stay = "options stay as started; to change them, stop the cluster and start it"
    if now.problems and now.problems != before.problems:
        return f"{now.problems[0]} ({stay})"
    names = {**before.names, **now.names}
    fields = sorted(before.values.keys() | now.values.keys())
    changed = [names[field] for field in fields if before.values.get(field) != now.values.get(field)]
    return f"changed: {', '.join(changed)} ({stay})" if changed else ""
