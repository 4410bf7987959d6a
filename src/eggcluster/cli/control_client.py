"""Talking to a running master over its control socket; `stop` and `reload`. Runs in the user's shell."""

import contextlib
from collections.abc import Generator
from typing import Any, BinaryIO

import click
import msgspec

from eggcluster.errors import ClusterEnded, ClusterNotRunning, ControlError
from eggcluster.kernel.process_exit import wait_until_gone
from eggcluster.kernel.unix_socket import connect_unix
from eggcluster.model.lives.phase import ExitCode
from eggcluster.runtime.runtime_dir import Description, RuntimeDir

ANSWER_TIMEOUT = 10.0  # seconds for an answer of the master, or of the agent, which has 5


def ask(cluster: Description, command: str, timeout: float | None = None, **details: Any) -> Generator[Any, None, Any]:
    """Send a command; yields what it tells on the way. The generator's value is the answer.

    ControlError if the master refuses, or does not answer for `timeout` seconds; ClusterNotRunning if no master
    answers, or no longer.
    """
    try:
        sock = connect_unix(RuntimeDir(cluster.name).control_socket, blocking=timeout is None)
    except BlockingIOError:  # as many wait already as can
        raise _silent(cluster) from None
    except OSError as error:
        text = f'"{cluster.name}" (pid {cluster.pid}) does not answer: {error.strerror}'
        raise ClusterNotRunning(text) from None
    with sock, contextlib.suppress(ConnectionError, EOFError):
        sock.settimeout(timeout)
        with contextlib.suppress(BrokenPipeError):  # refused already: what it said of that is there to be read
            sock.sendall(msgspec.json.encode({"command": command, **details}) + b"\n")
        try:
            with sock.makefile("rb") as lines:
                return (yield from _follow(lines))
        except TimeoutError:
            raise _silent(cluster) from None
    raise ClusterEnded(f'"{cluster.name}" (pid {cluster.pid}) ended before it had answered')


def _silent(cluster: Description) -> ControlError:
    return ControlError(f'"{cluster.name}" (pid {cluster.pid}) runs and does not answer; was it stopped (Ctrl-Z)?')


def _follow(lines: BinaryIO) -> Generator[Any, None, Any]:
    for line in lines:
        answer = msgspec.json.decode(line, type=dict[str, Any])
        if "progress" in answer:
            yield answer["progress"]
        elif "error" in answer:
            raise ControlError(answer["error"])
        else:
            return answer["done"]
    raise EOFError


def answer_to(cluster: Description, command: str) -> Any:
    """The answer to a command that has no progress to tell."""
    talk = ask(cluster, command, ANSWER_TIMEOUT)
    while True:
        try:
            next(talk)
        except StopIteration as end:
            return end.value


def stop_cluster(cluster: Description) -> int:
    """Close the cluster and wait until its master has ended."""
    with contextlib.suppress(ClusterNotRunning):  # then it is on its way to what was asked for
        for line in ask(cluster, "stop"):
            click.echo(line)
    wait_until_gone(cluster.pid)
    click.echo(f"{cluster.name} stopped")
    return ExitCode.CLOSED


def reload_cluster(cluster: Description, *, agent: bool | None) -> int:
    """Reload the cluster; the lines of its progress are printed as they come."""
    began = False
    try:
        for line in ask(cluster, "reload", agent=agent):
            began = True
            click.echo(line)
    except ControlError as error:
        if not began:  # the master would not even start
            raise
        raise ControlError(f"reload stopped: {error}") from None
    return ExitCode.CLOSED
