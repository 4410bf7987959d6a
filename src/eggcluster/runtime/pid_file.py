"""The pid file: checked before it is written, written atomically, removed by its owner alone. In master and shell."""

import contextlib
import os

from eggcluster.errors import OptionsError
from eggcluster.kernel.process_tree import is_running
from eggcluster.runtime.runtime_dir import write_atomically


class PidFile:
    """Holds this process's pid from `claim` to `release`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._claimed = False

    def claim(self) -> None:
        """Write the pid; OptionsError if the file holds a running process's pid, or cannot be written."""
        # os.replace would replace a device with a file. It refuses a directory, with a clear error.
        if os.path.exists(self.path) and not os.path.isfile(self.path) and not os.path.isdir(self.path):
            raise OptionsError(f'pid_file: "{self.path}" is not a regular file; use another path')
        other = read_pid(self.path)
        if other is not None and other != os.getpid() and is_running(other):
            raise OptionsError(f'pid_file: "{self.path}" belongs to the running process {other}; use another path')
        try:
            write_atomically(self.path, f"{os.getpid()}\n".encode())
        except OSError as error:
            raise OptionsError(f'pid_file: "{self.path}" cannot be written: {error.strerror}') from None
        self._claimed = True

    def release(self) -> None:
        """Remove the file if it still holds this process's pid; may be called again."""
        if self._claimed and read_pid(self.path) == os.getpid():
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self._claimed = False


def read_pid(path: str) -> int | None:
    """Return the pid in the file, None if there is no such file or it holds no number."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return int(file.read(32).strip())
    except (OSError, ValueError):
        return None
