"""The pid file: checked before it is written, written atomically, removed by its owner alone. In master and shell."""

import contextlib
import os

from eggcluster.errors import OptionsError
from eggcluster.kernel.process_tree import is_running
from eggcluster.runtime.safe_files import read_small, untrusted_parent, user_name, write_atomically

PID_MODE = 0o644  # others may read it, whatever the umask is


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
        try:
            self._check_owners()
            other = None if self._is_open_to_others() else read_pid(self.path)
            if other is not None and other != os.getpid() and is_running(other):
                raise OptionsError(f'pid_file: "{self.path}" belongs to the running process {other}; use another path')
            write_atomically(self.path, f"{os.getpid()}\n".encode(), PID_MODE)
        except OSError as error:
            raise OptionsError(f'pid_file: "{self.path}" cannot be written: {error.strerror}') from None
        self._claimed = True

    def _check_owners(self) -> None:
        why = untrusted_parent(self.path)
        with contextlib.suppress(FileNotFoundError):
            owner = os.lstat(self.path).st_uid
            why = why or ("" if owner in (0, os.geteuid()) else f"it belongs to {user_name(owner)}")
        if why:
            raise OptionsError(f'pid_file: "{self.path}" is not safe: {why}; use a path of your own, such as in /run')

    def _is_open_to_others(self) -> bool:
        """Return whether other users may have written the file, so that its content says nothing."""
        with contextlib.suppress(FileNotFoundError):
            return bool(os.lstat(self.path).st_mode & 0o022)
        return False

    def release(self) -> None:
        """Remove the file if it still holds this process's pid; may be called again."""
        if self._claimed and read_pid(self.path) == os.getpid():
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self._claimed = False


def read_pid(path: str) -> int | None:
    """Return the pid in the file, None if there is no such file or it holds no number."""
    try:
        return int(read_small(path, 32).decode("ascii", "replace").strip())
    except (OSError, ValueError):
        return None
