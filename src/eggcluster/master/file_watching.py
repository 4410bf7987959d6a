"""The master's end of the file watcher: a change of a file that workers run becomes a reload. Runs in the master."""

import asyncio
import contextlib
import glob
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from eggcluster.ipc.file_watch import FilesChanged, WatchOrder, encode_line, read_changes
from eggcluster.kernel.file_stamps import Stamp
from eggcluster.kernel.tasks import TaskSet
from eggcluster.master.events import Inbox, ReloadRequested
from eggcluster.model.lives.worker import Worker
from eggcluster.modes.process import TITLE_ROOM, environment, place_now
from eggcluster.options import ResolvedOptions
from eggcluster.wording import one_line

INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
MOST_NAMED = 3  # changed files that the log line names
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a file watcher that has died is replaced

_logger = logging.getLogger("eggcluster.master")


class FileWatching:
    """Keeps a file watcher running from `open` to `close`, and gives it the files that the workers have imported.

    The files are those of all workers so far, also of those that could not boot: one of these is about to be mended. A
    change during the boot is held until the cluster is ready, or a worker could not boot: then a reload can help.
    """

    def __init__(self, options: ResolvedOptions, cluster_id: str, inbox: Inbox) -> None:
        self._options = options
        self._cluster_id = cluster_id
        self._inbox = inbox
        self._patterns = patterns(options)
        self._sources: dict[str, Stamp] = {}
        self._can_reload = self._is_held = False
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks = TaskSet()

    def open(self) -> None:
        """Start the file watcher. Return at once."""
        self._tasks.start(self._keep_running())

    def close(self) -> None:
        """End the file watcher."""
        self._tasks.cancel()
        self._end()

    def found(self, worker: Worker, sources: Iterable[Stamp]) -> None:
        """Take the files that a worker has reported."""
        new = {stamp[0]: stamp for stamp in sources if not is_installed(stamp[0])}
        known = len(self._sources)
        self._sources.update(new)
        if len(self._sources) != known:
            self._order()

    def show(self, description: dict[str, Any]) -> None:
        """Take a description of the event feed: does it say that a reload can help from now on?"""
        event = description["event"]
        if event == "ready" or (event == "died" and description["state"] == "starting"):
            self._can_reload = True
            if self._is_held:
                self._is_held = False
                self._inbox.put(ReloadRequested(own_files=True))

    def changed(self, changes: FilesChanged) -> None:
        """Take a report of the file watcher."""
        _logger.info("%s changed, reloading", in_words(changes, self._options.base_dir))
        if self._can_reload:
            self._inbox.put(ReloadRequested(own_files=True))
        self._is_held = not self._can_reload

    def _order(self) -> None:
        if self._writer is not None:
            order = WatchOrder(self._options.base_dir, [*self._sources.values()], self._patterns)
            self._writer.write(encode_line(order))

    # -- the process -----------------------------------------------------------------------------------------

    async def _keep_running(self) -> None:
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        while True:
            began = loop.time()
            try:
                await self._follow(self._start())
                why = "it died"
            except OSError as error:
                why = str(error)
            finally:
                self._end()
            pause = FIRST_PAUSE if loop.time() - began > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            _logger.warning("no changes of files are noticed (%s), the next try follows in %gs", why, pause)
            await asyncio.sleep(pause)

    def _start(self) -> socket.socket:
        """Start the process; return the master's end of the socket to it. OSError if the system refuses."""
        ours, theirs = socket.socketpair()
        place = place_now(self._options)
        try:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "eggcluster.file_watcher"),
                    *(str(theirs.fileno()), self._options.name, TITLE_ROOM),
                ],
                pass_fds=(theirs.fileno(),),
                env=environment(self._cluster_id, f"{self._cluster_id}/watcher", place.directory),
                cwd=place.directory,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    async def _follow(self, sock: socket.socket) -> None:
        """Give the file watcher what there is to watch, and take its reports, until it ends."""
        reader, self._writer = await asyncio.open_unix_connection(sock=sock)
        self._order()
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):  # it is stopped, or not what it should be
            while line := await reader.readline():
                self.changed(read_changes(line))

    def _end(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.transport.abort()
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # does nothing once it is reaped
            process.wait()


def patterns(options: ResolvedOptions) -> list[str]:
    """Return the patterns of the files that are watched besides the imported ones, relative to the base directory."""
    python = (os.path.join(glob.escape(each), "**", "*.py") for each in options.reload_dir)
    return [*python, *options.reload_include]


def is_installed(path: str) -> bool:
    """Return whether a file belongs to an installed package: it changes with a deploy, and not while one develops."""
    return any(part in path for part in INSTALLED)


def in_words(changes: FilesChanged, base_dir: str) -> str:
    """Return which files have changed, for the log: those in the base directory relative to it."""
    names: Sequence[str] = [one_line(path.removeprefix(os.path.join(base_dir, ""))) for path in changes.paths]
    more = changes.count - len(names[:MOST_NAMED])
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more else "")
