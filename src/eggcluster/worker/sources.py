"""Which files a worker's code came from, so that the master can see whether they have changed. Runs in the agent."""

import os
import sys
import sysconfig

import eggcluster

MAX_FILES = 5000  # some hundred bytes each; an agent with more is compared by these


def source_files() -> list[tuple[str, int, int]]:
    """The path, modification time (ns) and size of each file that a module was loaded from, but not of the standard
    library's and ours: those the master cannot load anew either."""
    stdlib = sysconfig.get_path("stdlib") + os.sep
    packages = (sysconfig.get_path("purelib") + os.sep, sysconfig.get_path("platlib") + os.sep)
    ours = os.path.dirname(eggcluster.__file__ or "") + os.sep
    files = []
    for module in list(sys.modules.values())[:]:
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or path.startswith(ours):
            continue
        if path.startswith(stdlib) and not path.startswith(packages):
            continue
        try:
            seen = os.stat(path)
        except OSError:
            continue
        files.append((path, seen.st_mtime_ns, seen.st_size))
    return files[:MAX_FILES]
