"""Finding a running cluster by its name, its pid file or its base directory. Runs in the user's shell."""

import contextlib
import os
from collections.abc import Callable

from eggcluster.errors import ClusterNotRunning, OptionsError
from eggcluster.master.pid_file import read_pid
from eggcluster.master.runtime_dir import Description, running_clusters, runtime_root, storable

Wanted = Callable[[Description], bool]


def find_cluster(name: str | None = None, pid_file: str | None = None, base_dir: str | None = None) -> Description:
    """The one cluster that is meant. ClusterNotRunning where none is, OptionsError where several are."""
    if name is not None:
        return _one(lambda cluster: cluster.name == name, f'of the name "{name}"')
    if pid_file is not None:
        pid = read_pid(pid_file)
        return _one(lambda cluster: cluster.pid == pid, f'of the pid file "{pid_file}"')
    try:
        folder = storable(os.path.realpath(base_dir or os.curdir))
    except FileNotFoundError:
        raise OptionsError("base_dir: the current directory no longer exists; say which with --name") from None
    return _one(lambda cluster: storable(os.path.realpath(cluster.base_dir)) == folder, f"in {folder}")


def _one(wanted: Wanted, which: str) -> Description:
    running = list(running_clusters())
    matching = [cluster for cluster in running if wanted(cluster)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(cluster.name for cluster in matching)
        raise OptionsError(f"several clusters run {which}: {names}; say which with --name")
    names = ", ".join(cluster.name for cluster in running) or "none"
    text = f"no cluster {which} is running (running, by {runtime_root()}: {names})"
    if lost := next(filter(wanted, _masters()), None):
        why = f"it was removed, or another one was set at the start; end it with `kill {lost.pid}`"
        text = f"the cluster {which} runs as pid {lost.pid}, but not in the runtime directory {runtime_root()}: {why}"
    raise ClusterNotRunning(text)


def _masters() -> list[Description]:
    """This user's masters by their process titles: for when their runtime directory does not tell of them."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            title = " ".join(process.cmdline()).strip()
            if title.startswith("egg-master: ") and process.uids().real == os.getuid():
                found.append(Description(process.pid, title.partition(": ")[2], process.cwd()))
    return found
