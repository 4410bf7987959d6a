"""A limit of open files under which a given number is free below the reserve."""

import contextlib
import gc
import os
import resource
from collections.abc import Iterator
from itertools import count as numbers


@contextlib.contextmanager
def room_for(count: int, reserve: int, share: int) -> Iterator[int]:
    """So many descriptors are free below the reserve (as in `Descriptors`), whatever else this process was given: other
    numbers may be held anywhere, and under a small limit the reserve depends on the limit. Yields how many are free in
    the reserve."""
    gc.collect()  # what earlier tests have left is closed now, and not while the limit holds
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.dup(0) for _ in range(count)]
    for descriptor in free:
        os.close(descriptor)
    ceiling = max(free) + 1
    limit = next(limit for limit in numbers(ceiling) if limit - max(1, min(reserve, limit // share)) == ceiling)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield sum(not _is_open(number) for number in range(ceiling, limit))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
