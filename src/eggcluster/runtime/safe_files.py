"""Files and directories of a cluster where other users may write, too. Runs in the master and the command line.

A master may run as root. What another user has put in its way (a link, a file of the same name, a directory on the way
that is exchanged later) is refused and never followed. Modes do not depend on the umask.
"""

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Iterator

MAX_LINKS = 40  # on the way to a file; the kernel's own limit (path_resolution(7))
EVERY_ID = "4294967295"  # in /proc/self/uid_map: a user namespace that maps every user


def untrusted_parent(path: str) -> str:
    """Return why another user could exchange what is at `path`: a directory or a link on the way belongs to that user.
    Return "" if all of them belong to root and this user. OSError if there is no such directory.

    A directory in which others may write, such as /tmp, is not refused: its files are made anew and never followed.
    """
    trusted = _trusted_owners()
    for passed in _way_to(os.path.dirname(os.path.abspath(path))):
        owner = os.lstat(passed).st_uid
        if owner not in trusted:
            return f"{passed}, on the way to it, belongs to {user_name(owner)}"
    return ""


def write_atomically(path: str, content: bytes, mode: int = 0o600) -> None:
    """Write a file so that a reader finds either the old content or the new one, never a part of it. A link at `path`
    is replaced and not followed."""
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"  # a name that nobody can have taken before
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with open(file, "wb") as stream:
            os.fchmod(file, mode)
            stream.write(content)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def open_log(path: str) -> int:
    """Return a descriptor that appends to a file of this user, mode 0600; make the file if there is none.

    OSError for a link, for anything but a regular file, and for a file of another user or with a second name.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
        os.close(fd)
        raise OSError(errno.EPERM, "it is not a plain file of this user")
    os.fchmod(fd, 0o600)
    os.set_blocking(fd, True)
    return fd


def read_small(path: str, limit: int) -> bytes:
    """Return the first `limit` bytes of a file. A pipe or a device is not waited for."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(fd, limit)
    finally:
        os.close(fd)


def make_directories(path: str) -> None:
    """Make a directory and its missing parents, each with mode 0700: `os.makedirs` leaves the parents to the umask."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent) and parent != path:
        make_directories(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)


def why_not_own(path: str, forbidden: int) -> str:
    """Return why `path` is not a directory of this user without the `forbidden` mode bits; "" if it is one. OSError if
    there is nothing."""
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        return "it is not a directory"
    if found.st_uid != os.geteuid():
        return f"it belongs to {user_name(found.st_uid)}"
    if found.st_mode & forbidden:
        return f"others may use it (mode {stat.S_IMODE(found.st_mode):04o})"
    return untrusted_parent(path)


def user_name(uid: int) -> str:
    """Return a user's name, or the number if the system knows none."""
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"


def _way_to(directory: str) -> Iterator[str]:
    """Yield every directory and every link that the kernel passes on its way to `directory`, itself included."""
    at, left, links = "/", directory.split("/")[::-1], 0
    yield at
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        here = os.path.dirname(at) if part == ".." else os.path.join(at, part)
        yield here
        if not os.path.islink(here):
            at = here
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink(here)
        at = "/" if target.startswith("/") else at
        left += target.split("/")[::-1]


def _trusted_owners() -> set[int]:
    """Return root, this user and, in a user namespace, the id that stands for users outside of it: there the files of
    the real root have that one."""
    with contextlib.suppress(OSError), open("/proc/self/uid_map", encoding="ascii") as file:
        if EVERY_ID not in file.read().split():
            with open("/proc/sys/kernel/overflowuid", encoding="ascii") as overflow:
                return {0, os.geteuid(), int(overflow.read())}
    return {0, os.geteuid()}
