"""The cluster's private runtime directory: lock, description, sockets. Runs in the master and the command line.

$EGG_RUNTIME_DIR, $XDG_RUNTIME_DIR/eggcluster or /tmp/eggcluster-UID
  NAME/             0700
    lock            held by a living master with flock(2); the other files may be left over from a dead master
    cluster.json    pid, name, base directory
    control.sock
    agent.sock      the cluster port: where app workers reach the agent past the master
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator, Mapping

import msgspec

from eggcluster.errors import OptionsError
from eggcluster.wording import shown

MAX_TRIES = 100  # a cluster that ends may remove the directory between two steps; nothing else needs a second try


class Description(msgspec.Struct, frozen=True):
    """Holds what the command line needs to find a cluster."""

    pid: int
    name: str
    base_dir: str


def runtime_root(environ: Mapping[str, str] = os.environ) -> str:
    """Return the directory that holds the runtime directories of this user's clusters."""
    for variable, below in (("EGG_RUNTIME_DIR", ""), ("XDG_RUNTIME_DIR", "eggcluster")):
        if given := environ.get(variable):
            try:
                return os.path.abspath(os.path.join(given, below))
            except FileNotFoundError:
                why = "is relative, and the current directory no longer exists"
                raise OptionsError(f"{variable}: {shown(given)} {why}; name an absolute one") from None
    return f"/tmp/eggcluster-{os.getuid()}"


class RuntimeDir:
    """The runtime directory of the cluster `name`. Between `claim` and `release` it belongs to this process."""

    def __init__(self, name: str, root: str | None = None) -> None:
        self.root = root or runtime_root()
        self.path = os.path.join(self.root, name)
        self.control_socket = os.path.join(self.path, "control.sock")
        self.cluster_port = os.path.join(self.path, "agent.sock")
        self._name = name
        self._lock_path = os.path.join(self.path, "lock")
        self._description_path = os.path.join(self.path, "cluster.json")
        self._lock: int | None = None
        self._locked_directory: int | None = None

    def claim(self, base_dir: str) -> None:
        """Take the name; OptionsError if a running cluster has it, or if the directory is not safe."""
        try:
            self._lock = self._make_and_lock()
            self._protect_from_cleaners()
            for stale in (self.control_socket, self.cluster_port):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(stale)
            description = Description(os.getpid(), storable(self._name), storable(base_dir))
            write_atomically(self._description_path, msgspec.json.encode(description))
        except OSError as error:
            raise unusable(self.path, error) from None

    def release(self) -> None:
        """Remove the directory; may be called again."""
        if self._lock is not None:
            if self._is_still_ours(self._lock):
                shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None
            if self._locked_directory is not None:
                os.close(self._locked_directory)
                self._locked_directory = None
            with contextlib.suppress(OSError):  # not empty: other clusters of this user
                os.rmdir(self.root)

    def _protect_from_cleaners(self) -> None:
        """Lock the directory: systemd-tmpfiles(8) removes files in /tmp that were not used for days, but not those in
        a locked directory."""
        self._locked_directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # a cleaner holds the lock at the moment
            fcntl.flock(self._locked_directory, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _is_still_ours(self, lock: int) -> bool:
        """Return whether the lock file is still in place. If it was removed, the next cluster has made another one."""
        try:
            return os.path.samestat(os.fstat(lock), os.stat(self._lock_path))
        except OSError:
            return False

    def describe(self) -> Description | None:
        """Return the description of the running cluster of that name, None if it is not running."""
        if not self.is_held():
            return None
        with contextlib.suppress(OSError, msgspec.MsgspecError), open(self._description_path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Description)
        return None

    def is_held(self) -> bool:
        """Return whether a living master holds the lock."""
        try:
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _make_and_lock(self) -> int:
        """Make the directory and lock it. Try again if a cluster of the same name, which ends, removes it meanwhile."""
        for _ in range(MAX_TRIES):
            _make_own(self.root, forbidden=0o022)
            _make_own(self.path, forbidden=0o077)
            lock = self._try_lock()
            if lock is not None:
                return lock
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _try_lock(self) -> int | None:
        """Return the locked file descriptor, None if the directory was removed meanwhile and must be made again."""
        try:
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_still_ours(fd):
                return fd
        except BlockingIOError:
            os.close(fd)
            raise OptionsError(self._already_running()) from None
        except OSError:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def _already_running(self) -> str:
        description = self.describe()
        pid = f" (pid {description.pid}, {description.base_dir})" if description else ""
        return f'name: a cluster "{self._name}" is already running{pid}; stop it or use another --name'


def running_clusters(root: str | None = None) -> Iterator[Description]:
    """Yield the running clusters of this user."""
    root = root or runtime_root()
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(root)):
            if description := RuntimeDir(name, root).describe():
                yield description


def write_atomically(path: str, content: bytes) -> None:
    """Write a file so that a reader finds either the old content or the new one, never a part of it."""
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def storable(text: str) -> str:
    """Return a path or a name in a form that JSON can hold: bytes that are not UTF-8 are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def unusable(path: str, error: OSError) -> OptionsError:
    """Return the OptionsError for an OSError in the runtime directory `path`."""
    why = f"{error.strerror or error}; set EGG_RUNTIME_DIR to another directory"
    return OptionsError(f"the runtime directory {storable(path)} cannot be used: {why}")


def _make_own(path: str, *, forbidden: int) -> None:
    """Make a directory. OptionsError if it belongs to another user or has one of the `forbidden` mode bits."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.lstat(path)
    except FileNotFoundError:
        return  # removed by a cluster that has just ended; the caller tries again
    except OSError as error:
        raise unusable(path, error) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & forbidden:
        raise OptionsError(
            f"the runtime directory {path} is not a private directory of this user; remove it, or set EGG_RUNTIME_DIR"
        )
