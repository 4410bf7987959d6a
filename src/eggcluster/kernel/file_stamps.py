"""What shows that a file has changed: its modification time and its size. Runs in all processes."""

import os

Stamp = tuple[str, int, int]  # of a file: path, modification time in ns, size in bytes (ABSENT: there is no such file)
ABSENT = -1


def stamp_of(path: str) -> Stamp:
    """Return the file's stamp. Links are followed. A disk may be slow."""
    try:
        seen = os.stat(path)
    except (OSError, ValueError):  # ValueError: a path that no file can have
        return path, 0, ABSENT
    return path, seen.st_mtime_ns, seen.st_size
