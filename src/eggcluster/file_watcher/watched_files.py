"""Which files are watched, and which of them have changed. Pure; runs in the file watcher.

A notification of the kernel only says when to look. What counts is the stamp: an editor that writes a file, truncates
it, or puts another one in its place by a rename, changes it in each case. So no notification has to be understood, and
one that is missed is made good for by the next look.
"""

import os
from collections.abc import Iterable, Sequence

from eggcluster.ipc.file_watch import FilesChanged
from eggcluster.kernel.file_stamps import ABSENT, Stamp

MAX_NAMED = 10  # paths in one report; a checkout of another branch may change thousands
FOREIGN = frozenset({"site-packages", "dist-packages", "node_modules", "__pycache__"})


def is_foreign(path: str) -> bool:
    """Return whether a file is installed or made by a tool: it changes by the hundred, and not while one develops."""
    return not FOREIGN.isdisjoint(path.split(os.sep)[:-1])


class WatchedFiles:
    """The last stamp of each watched file. `sources` and `matches` are the paths, by where they come from."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.matches: list[str] = []
        self._known: dict[str, Stamp] = {}

    @property
    def paths(self) -> list[str]:
        return [*self.sources, *self.matches]

    def watch(self, sources: Iterable[Stamp], matches: Iterable[Stamp]) -> None:
        """Take what a new order names, and forget what it does not name. A file that is not known yet is known as its
        stamp says: of a source, that is what the worker has imported."""
        named, found = {stamp[0]: stamp for stamp in sources}, {stamp[0]: stamp for stamp in matches}
        self._known = {path: self._known.get(path, stamp) for path, stamp in {**found, **named}.items()}
        self.sources, self.matches = list(named), [path for path in found if path not in named]

    def match(self, paths: Iterable[str]) -> None:
        """Take the files that match the order's patterns now. A new one has changed: it has not been there."""
        self.matches = [path for path in paths if path not in self.sources]

    def changed(self, now: Iterable[Stamp]) -> list[str]:
        """Compare with the stamps of now, which are known afterwards; return the paths of the files that changed."""
        return [stamp[0] for stamp in now if self._has_changed(stamp)]

    def _has_changed(self, stamp: Stamp) -> bool:
        before = self._known.get(stamp[0], (stamp[0], 0, ABSENT))
        self._known[stamp[0]] = stamp
        return stamp != before


def report_of(changed: Sequence[str]) -> FilesChanged:
    """Return the report of these changed files."""
    return FilesChanged(len(changed), [*changed[:MAX_NAMED]])


def directories_of(paths: Iterable[str]) -> set[str]:
    """Return the directories to watch: of each file, because one that is replaced by a rename is another file."""
    return {os.path.dirname(path) for path in paths}
