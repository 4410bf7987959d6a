"""Watches files by the kernel's notifications, and by a look each second. Runs in the file watcher.

The master names the files; a thread reads its orders, and ends the process when the master has gone.
"""

import contextlib
import glob
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

import setproctitle

from eggcluster.file_watcher.watched_files import WatchedFiles, directories_of, is_foreign, report_of
from eggcluster.ipc.file_watch import FilesChanged, WatchOrder, encode_line, read_order
from eggcluster.kernel.file_stamps import stamp_of
from eggcluster.kernel.signal_actions import reset_inherited_signals
from eggcluster.model.lives.phase import ExitCode

LOOK_INTERVAL = 1000  # ms between two looks without a notification: mounts of containers and networks send none
# ms without a further notification until those so far are one change. An editor saves several files within a few ms;
# if a checkout of another branch pauses for longer, another reload follows the first.
QUIET = 25
MOST_NOISE = 500  # ms after which they are one change all the same
MAX_MATCHES = 20_000
UNNOTIFIED_LOOKS = 2  # for new files, at first: before the kernel watches the directories, and right after that

Report = Callable[[FilesChanged], None]


def main() -> NoReturn:
    """Watch what the master orders until it has gone. The first argument is the file descriptor of the socket to it."""
    reset_inherited_signals()
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    setproctitle.setproctitle(f"egg-watcher: {sys.argv[2]}")
    orders = OrderReader(sock)
    files = WatchedFiles()

    def report(changes: FilesChanged) -> None:
        with contextlib.suppress(OSError):  # the master has gone, and the thread is about to see that
            sock.sendall(encode_line(changes))

    while True:
        follow(orders.next(), files, orders.has_come, report)


class OrderReader:
    """Reads the master's orders in a thread. `has_come` is set while there is one that has not been taken."""

    def __init__(self, sock: socket.socket) -> None:
        self.has_come = threading.Event()
        self._newest: WatchOrder | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._read, args=(sock,), name="egg-watch-orders", daemon=True).start()

    def next(self) -> WatchOrder:
        """Wait for an order that is newer than the last one, and return the newest."""
        while True:
            self.has_come.wait()
            with self._lock:
                self.has_come.clear()
                order, self._newest = self._newest, None
            if order is not None:
                return order

    def _read(self, sock: socket.socket) -> None:
        try:
            with sock.makefile("rb") as lines:
                for line in lines:
                    order = read_order(line)
                    with self._lock:
                        self._newest = order
                        self.has_come.set()
        finally:
            os._exit(ExitCode.CLOSED)  # the main thread may be in the library's code


def follow(order: WatchOrder, files: WatchedFiles, has_come: threading.Event, report: Report) -> None:
    """Watch what `order` names, and report changes, until another order has come."""
    files.watch(order.sources, map(stamp_of, matching(order)))
    while not has_come.is_set():
        directories = existing(files, order)
        for look, notified in enumerate(notifications(directories, has_come)):
            if notified or look < UNNOTIFIED_LOOKS:
                files.match(matching(order))
            changed = files.changed(map(stamp_of, files.paths))
            if changed:
                forget_byte_code(changed)
                report(report_of(changed))
            if changed and not notified:
                break  # the directory is another one now, or its file system sends no notifications
            if notified and existing(files, order) != directories:
                break


def forget_byte_code(paths: Iterable[str]) -> None:
    """Remove the cached byte code of these files. It holds the source's modification time in whole seconds, and its
    size: a second change within one second that keeps the size would not be seen by Python (PEP 552)."""
    for path in paths:
        if path.endswith(".py"):
            with contextlib.suppress(OSError, NotImplementedError):  # none is there, or Python caches none
                os.unlink(importlib.util.cache_from_source(path))


def notifications(directories: Iterable[str], stop: threading.Event) -> Iterator[bool]:
    """Yield True when something has happened in one of the directories, and False after LOOK_INTERVAL without that.
    End when `stop` is set, or the system refuses to watch."""
    import watchfiles

    try:
        yield False  # what has happened before the kernel began to watch
        for changes in watchfiles.watch(
            *directories,
            watch_filter=None,
            debounce=MOST_NOISE,
            step=QUIET,
            stop_event=stop,
            rust_timeout=LOOK_INTERVAL,
            yield_on_timeout=True,
            recursive=False,
            ignore_permission_denied=True,
        ):
            yield bool(changes)
    except (OSError, RuntimeError):  # no directory is left, or none may be watched (fs.inotify.max_user_watches)
        stop.wait(LOOK_INTERVAL / 1000)


def matching(order: WatchOrder) -> list[str]:
    """Return the files that match the order's patterns now."""
    found = (
        os.path.join(order.base_dir, path)
        for pattern in order.patterns
        for path in glob.iglob(pattern, root_dir=order.base_dir, recursive=True)
        if not is_foreign(path)
    )
    files = dict.fromkeys(path for path in found if os.path.isfile(path))
    return list(files)[:MAX_MATCHES]


def existing(files: WatchedFiles, order: WatchOrder) -> set[str]:
    """Return the directories to watch: of all files, of what links among them lead to, and those in which a new file
    would match a pattern."""
    paths = files.paths
    wanted = directories_of([*paths, *map(os.path.realpath, paths)])
    for pattern in order.patterns:
        # Of a file name without a directory that is the base directory itself.
        found = glob.iglob(os.path.dirname(pattern) or ".", root_dir=order.base_dir, recursive=True)
        wanted |= {os.path.join(order.base_dir, each) for each in found if not is_foreign(os.path.join(each, ""))}
    return {directory for directory in wanted if os.path.isdir(directory)}
