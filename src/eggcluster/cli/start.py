"""`eggcluster start`: runs the master in this process, or as a daemon. Runs in the user's shell."""

import asyncio
import os

from eggcluster.cli.output import say, say_lines
from eggcluster.errors import BootError, OptionsError
from eggcluster.kernel.terminal import is_terminal
from eggcluster.model.lives.phase import ExitCode
from eggcluster.options import ResolvedOptions
from eggcluster.runtime.safe_files import make_directories, open_log, untrusted_parent


def start_foreground(options: ResolvedOptions) -> int:
    """Run the master in this process until the cluster ends; return the exit code."""
    from eggcluster.master.master_process import run_master

    return run_master(options)


def start_daemon(options: ResolvedOptions) -> int:
    """Start a master that outlives this command. Return the exit code once the cluster is ready or has failed."""
    path = _log_path(options.name)
    try:
        output = open_log(path)
    except OSError as error:
        raise OptionsError(f"daemon: the log {path} cannot be written: {error.strerror}; set XDG_STATE_HOME") from None
    begin = os.fstat(output).st_size
    try:
        pid, address = asyncio.run(_wait_ready(options, output))
    except BootError as error:
        with open(path, encoding="utf-8", errors="replace") as file:
            file.seek(begin)
            say_lines(file.read(), error=True)
        say(f"eggcluster: the cluster did not start, see {path}: {str(error).splitlines()[0]}", error=True)
        return ExitCode.FAILED
    finally:
        os.close(output)
    say(f"{options.name} started on {address} (pid {pid}, log {path})")
    if is_terminal(1):
        say(f"stop it with `eggcluster stop --name {options.name}`")
        say(f"look at it with `eggcluster status --name {options.name}`")
    return ExitCode.CLOSED


async def _wait_ready(options: ResolvedOptions, output: int) -> tuple[int, str]:
    from eggcluster.cluster import Cluster

    cluster = Cluster(options)
    await cluster.start(detached=True, output=output)
    return cluster.pid, cluster.address


def _log_path(name: str) -> str:
    """Return the path of a daemon's log: where the XDG base directory specification puts state. Make its directory."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    folder = os.path.join(home, "eggcluster")
    try:
        make_directories(folder)
        why = untrusted_parent(os.path.join(folder, name))
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise OptionsError(f"daemon: no log can be created in {folder}: {why}; set XDG_STATE_HOME")
    return os.path.join(folder, f"{name}.log")
