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
from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec

from eggcluster.errors import OptionsError
from eggcluster.runtime.safe_files import make_directories, read_small, why_not_own, write_atomically
from eggcluster.wording import shown

MAX_DESCRIPTION = 64 * 1024  # bytes; a path has at most 4096
ROOT_FORBIDDEN, NAME_FORBIDDEN = 0o022, 0o077  # mode bits that the two directories may not have
MAX_TRIES = 100  # a cluster that ends may remove the directory between two steps; nothing else needs a second try


class Description(msgspec.Struct, frozen=True):
    """Holds what the command line needs to find a cluster. `base_dir` may lead through links; `started_in` is where it
    led at the start, "" if it holds no link."""

    pid: Annotated[int, msgspec.Meta(gt=0)]
    name: str
    base_dir: str
    started_in: str = ""


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
            real = os.path.realpath(base_dir)
            started_in = storable(real) if real != base_dir else ""
            description = Description(os.getpid(), storable(self._name), storable(base_dir), started_in)
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
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(read_small(self._description_path, MAX_DESCRIPTION), type=Description)
        return None

    def is_held(self) -> bool:
        """Return whether a living master holds the lock."""
        try:
            if why_not_own(self.path, NAME_FORBIDDEN):
                return False
            fd = os.open(self._lock_path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
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
            _make_own(self.root, forbidden=ROOT_FORBIDDEN)
            _make_own(self.path, forbidden=NAME_FORBIDDEN)
            lock = self._try_lock()
            if lock is not None:
                return lock
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _try_lock(self) -> int | None:
        """Return the locked file descriptor, None if the directory was removed meanwhile and must be made again."""
        try:
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
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
    """Yield the running clusters of this user. OptionsError if the directory is another user's: what is described there
    is not to be trusted, nor is what listens there."""
    root = root or runtime_root()
    with contextlib.suppress(OSError):
        check_own(root, forbidden=ROOT_FORBIDDEN)
        for name in sorted(os.listdir(root)):
            if description := RuntimeDir(name, root).describe():
                yield description


def storable(text: str) -> str:
    """Return a path or a name in a form that JSON can hold: bytes that are not UTF-8 are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def unusable(path: str, error: OSError) -> OptionsError:
    """Return the OptionsError for an OSError in the runtime directory `path`."""
    why = f"{error.strerror or error}; set EGG_RUNTIME_DIR to another directory"
    return OptionsError(f"the runtime directory {storable(path)} cannot be used: {why}")


def check_own(path: str, *, forbidden: int) -> None:
    """OptionsError, which says how to go on, unless `path` is a directory of this user without the `forbidden` mode
    bits. A missing one is FileNotFoundError."""
    if why := why_not_own(path, forbidden):
        elsewhere = "set EGG_RUNTIME_DIR to a directory of yours, such as ~/.eggcluster, for `start` and each command"
        raise OptionsError(f"the runtime directory {path} is not a private directory of this user: {why}; {elsewhere}")


def _make_own(path: str, *, forbidden: int) -> None:
    """Make a directory, unless there is one; check it as `check_own` does."""
    try:
        make_directories(path)
        check_own(path, forbidden=forbidden)
    except FileNotFoundError:
        return  # removed by a cluster that has just ended; the caller tries again
    except OSError as error:
        raise unusable(path, error) from None
