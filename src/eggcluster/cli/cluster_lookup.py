"""Finds a running cluster by its name, its pid file or its base directory. Runs in the user's shell."""

import contextlib
import os
from collections.abc import Callable

from eggcluster.errors import ClusterNotRunning, OptionsError
from eggcluster.options.visible_path import visible, working_directory
from eggcluster.runtime.pid_file import read_pid
from eggcluster.runtime.runtime_dir import Description, RuntimeDir, running_clusters, runtime_root, storable

Wanted = Callable[[Description], bool]


def find_cluster(name: str | None = None, pid_file: str | None = None, base_dir: str | None = None) -> Description:
    """Return the one running cluster with this name, else with this pid file, else in this base directory (None: the
    current directory). ClusterNotRunning if none is running, OptionsError if several are."""
    if name is not None:
        return _one(lambda cluster: cluster.name == name, f'named "{name}"')
    if pid_file is not None:
        pid = read_pid(pid_file)
        return _one(lambda cluster: cluster.pid == pid, f'with the pid file "{pid_file}"')
    names = names_of(base_dir)
    return _one(lambda cluster: runs_in(cluster, names), f"in {min(names, key=len)}")


def names_of(base_dir: str | None) -> set[str]:
    """Return the names of a directory (None: the current one): as the user sees it, and without links.

    OptionsError if the current directory was removed, unless a cluster was started in it.
    """
    directory = ""
    with contextlib.suppress(FileNotFoundError):
        directory = working_directory(os.environ)
    if directory or (base_dir and os.path.isabs(base_dir)):
        return {storable(visible(base_dir or "", directory)), storable(os.path.realpath(base_dir or os.curdir))}
    removed = _removed_directory()
    if base_dir is None and any(cluster.started_in == removed for cluster in running_clusters()):
        return {removed}  # a deploy has removed the release in which the cluster was started
    raise OptionsError("base_dir: the current directory no longer exists; choose a cluster with --name")


def _removed_directory() -> str:
    """Return the path that the current directory had before it was removed (Linux)."""
    with contextlib.suppress(OSError):
        return storable(os.readlink("/proc/self/cwd").removesuffix(" (deleted)"))
    return ""


def runs_in(cluster: Description, names: set[str]) -> bool:
    """Return whether a cluster runs in the directory that has these names, or was started in it."""
    return not names.isdisjoint({cluster.base_dir, storable(os.path.realpath(cluster.base_dir)), cluster.started_in})


def _one(wanted: Wanted, which: str) -> Description:
    running = list(running_clusters())
    matching = [cluster for cluster in running if wanted(cluster)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(cluster.name for cluster in matching)
        raise OptionsError(f"several clusters run {which}: {names}; choose one with --name")
    names = ", ".join(cluster.name for cluster in running)
    others = f"choose a running one with --name: {names}" if names else f"{runtime_root()} has no running cluster"
    text = f"no cluster {which} is running; {others}"
    if lost := next(filter(wanted, _without_directory()), None):
        gone = RuntimeDir(lost.name).path
        text = f"the cluster {which} runs, but {gone} was removed; end it with `kill {lost.pid}`"
    raise ClusterNotRunning(text)


def _without_directory() -> list[Description]:
    """Return this user's clusters whose runtime directory was removed while their masters hold its lock."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            title = " ".join(process.cmdline()).strip()
            name = title.removeprefix("egg-master: ")
            if name != title and _removed_lock(name) in _open_files(process.pid):
                found.append(Description(process.pid, name, process.cwd()))
    return found


def _removed_lock(name: str) -> str:
    return os.path.realpath(f"{RuntimeDir(name).path}/lock") + " (deleted)"


def _open_files(pid: int) -> set[str]:
    """Return the paths of a process's open files, from its links in /proc (Linux). OSError if the process belongs to
    another user."""
    folder = f"/proc/{pid}/fd"
    found = set()
    for fd in os.listdir(folder):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"{folder}/{fd}"))
    return found
