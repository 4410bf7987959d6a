"""Whether files are still what they were. Runs in the master, in a thread of its own: a disk may take its time."""

import os
from collections.abc import Iterable

Stamp = tuple[str, int, int]  # path, modification time in ns, size


def any_changed(stamps: Iterable[Stamp]) -> bool:
    """Whether one of the files has another modification time or size than its stamp, or is gone."""
    return any(_changed(*stamp) for stamp in stamps)


def _changed(path: str, modified: int, size: int) -> bool:
    try:
        now = os.stat(path)
    except (OSError, ValueError):  # ValueError: a path that no file can have
        return True
    return (now.st_mtime_ns, now.st_size) != (modified, size)
