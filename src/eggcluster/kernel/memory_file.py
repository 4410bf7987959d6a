"""A file that is nowhere but in memory: what it holds outlives the process that wrote it. Runs in the master."""

import os
import tempfile


def memory_file(name: str) -> int:
    """A new empty one; gives its file descriptor, which children do not inherit unless told so. `name` is for people
    who look at /proc. OSError where the system refuses."""
    try:
        return os.memfd_create(name)
    except AttributeError:  # macOS: a file without a name is as good
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
