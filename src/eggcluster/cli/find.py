"""Finding a running cluster by its name, its pid file or its base directory. Runs in the user's shell."""

import os

from eggcluster.errors import ClusterNotRunning, OptionsError
from eggcluster.master.pid_file import read_pid
from eggcluster.master.runtime_dir import Description, running_clusters, runtime_root, storable


def find_cluster(name: str | None = None, pid_file: str | None = None, base_dir: str | None = None) -> Description:
    """The one cluster that is meant. ClusterNotRunning where none is, OptionsError where several are."""
    found = list(running_clusters())
    if name is not None:
        return _one([c for c in found if c.name == name], f'of the name "{name}"', found)
    if pid_file is not None:
        pid = read_pid(pid_file)
        return _one([c for c in found if c.pid == pid], f'of the pid file "{pid_file}"', found)
    try:
        folder = storable(os.path.realpath(base_dir or os.curdir))
    except FileNotFoundError:
        raise OptionsError("base_dir: the current directory no longer exists; say which with --name") from None
    return _one([c for c in found if os.path.realpath(c.base_dir) == folder], f"in {folder}", found)


def _one(matching: list[Description], which: str, running: list[Description]) -> Description:
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(cluster.name for cluster in matching)
        raise OptionsError(f"several clusters run {which}: {names}; say which with --name")
    names = ", ".join(cluster.name for cluster in running) or "none"
    raise ClusterNotRunning(f"no cluster {which} is running (running, by {runtime_root()}: {names})")
