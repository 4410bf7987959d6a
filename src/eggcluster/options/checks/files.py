"""The checks of directories and files that options name. Runs in the process that starts a cluster."""

import os
import stat
from collections.abc import Iterator

from eggcluster.options.cluster_options import ResolvedOptions
from eggcluster.options.sources import Naming
from eggcluster.options.table import BY_FIELD
from eggcluster.wording import shown

MIN_SECRET_BYTES, MAX_SECRET_BYTES = 32, 64 * 1024
NOT_READABLE = "is not readable by this user; change its permissions"


def check_text(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that all values can be sent to the workers as UTF-8 text, which a file name need not be."""
    odd = [field for field in BY_FIELD if not _is_text(getattr(options, field))]
    for field in ["base_dir"] if "base_dir" in odd else odd:  # other paths may be odd only because they begin with it
        yield f"{name(field)}: {shown(getattr(options, field))} is not UTF-8; use a name that is"


def _is_text(value: object) -> bool:
    try:
        return all(each.encode() is not None for each in _strings(value))
    except UnicodeEncodeError:
        return False


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        yield from (each for each in value if isinstance(each, str))


def check_base_dir(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that the base directory exists and can be read."""
    if not os.path.isdir(options.base_dir):
        yield f"{name('base_dir')}: {shown(options.base_dir)} is not a directory"
    elif not os.access(options.base_dir, os.R_OK | os.X_OK):
        yield f"{name('base_dir')}: {shown(options.base_dir)} {NOT_READABLE}"


def check_files(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that the logging configuration can be read, and that the pid file can be created."""
    if options.log_config is not None and (why := unreadable(options.log_config)):
        yield f"{name('log_config')}: {shown(options.log_config)} {why}"
    if options.pid_file is not None and (why := no_place_for(options.pid_file)):
        yield f"{name('pid_file')}: {shown(options.pid_file)} {why}"


def check_secret_file(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that the secret file can be read, by its owner alone, and is long enough."""
    if options.secret_file is not None and (why := unreadable(options.secret_file) or _no_secret(options.secret_file)):
        yield f"{name('secret_file')}: {shown(options.secret_file)} {why}"


def _no_secret(path: str) -> str:
    """Return why this readable file is no secret file, "" if it is one."""
    found = os.stat(path)
    if found.st_uid not in (0, os.geteuid()):
        return "belongs to another user; it has to be this user's"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return f"may be used by others (mode {stat.S_IMODE(found.st_mode):04o}); chmod 600 it"
    if not MIN_SECRET_BYTES <= found.st_size <= MAX_SECRET_BYTES:
        limits = f"use at least {MIN_SECRET_BYTES}, and at most {MAX_SECRET_BYTES}"
        return f"has {found.st_size} bytes; {limits}: head -c 32 /dev/urandom writes some"
    return ""


def unreadable(path: str) -> str:
    """Return why this file cannot be read, "" if it can."""
    if not os.path.exists(path):
        return "does not exist; name an existing file"
    if not os.path.isfile(path):
        return "is not a file"
    return "" if os.access(path, os.R_OK) else NOT_READABLE


def no_place_for(path: str) -> str:
    """Return why no file can be created at this path, "" if one can."""
    directory = os.path.dirname(path)
    if os.path.isdir(path):
        return "is a directory; name a file"
    if not os.path.isdir(directory):
        return f"cannot be created: {directory} is not a directory"
    return "" if os.access(directory, os.W_OK | os.X_OK) else f"cannot be created: {directory} is not writable"
