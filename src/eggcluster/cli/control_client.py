"""Sends commands to a running master over its control socket: `stop`, `reload` and others. Runs in the user's shell."""

import contextlib
import os
import socket
from collections.abc import Generator
from typing import Any, BinaryIO

import msgspec

from eggcluster.cli.output import say
from eggcluster.errors import ClusterEnded, ClusterNotRunning, ControlError
from eggcluster.kernel.process_exit import wait_until_gone
from eggcluster.kernel.unix_socket import connect_unix, peer_of
from eggcluster.model.lives.phase import ExitCode
from eggcluster.runtime.runtime_dir import Description, RuntimeDir
from eggcluster.runtime.safe_files import user_name

MAX_ANSWER = 64 * 1024**2  # bytes in a line; the largest are those of `messages --payload`
MAX_DEPTH = 32  # of dictionaries and lists in a line; a status has 5 levels
ANSWER_TIMEOUT = 10.0  # seconds for an answer of the master, or of the agent, which has 5


def ask(cluster: Description, command: str, timeout: float | None = None, **details: Any) -> Generator[Any, None, Any]:
    """Send a command and yield its progress. The generator's return value is the answer.

    ControlError if the master refuses, or does not answer for `timeout` seconds (None: no limit). ClusterNotRunning if
    no master answers; ClusterEnded if it ends before its answer.
    """
    try:
        sock = connect_unix(RuntimeDir(cluster.name).control_socket, blocking=timeout is None)
    except BlockingIOError:  # the queue of the master's listener is full
        raise _silent(cluster) from None
    except OSError as error:
        text = f'"{cluster.name}" (pid {cluster.pid}) does not answer: {error.strerror}'
        raise ClusterNotRunning(text) from None
    with sock, contextlib.suppress(ConnectionError, EOFError):
        _check_peer(sock, cluster)
        sock.settimeout(timeout)
        with contextlib.suppress(BrokenPipeError):  # the master has refused already, and its reason can be read
            sock.sendall(msgspec.json.encode({"command": command, **details}) + b"\n")
        try:
            with sock.makefile("rb") as lines:
                return (yield from _follow(lines))
        except TimeoutError:
            raise _silent(cluster) from None
    raise ClusterEnded(f'"{cluster.name}" (pid {cluster.pid}) ended before it answered')


def _silent(cluster: Description) -> ControlError:
    return ControlError(f'"{cluster.name}" (pid {cluster.pid}) runs but does not answer; was it stopped (Ctrl-Z)?')


def _follow(lines: BinaryIO) -> Generator[Any, None, Any]:
    while line := lines.readline(MAX_ANSWER + 1):
        answer = _decode(line)
        if "progress" in answer:
            yield answer["progress"]
        elif "error" in answer:
            raise ControlError(str(answer["error"]))
        else:
            return answer.get("done")
    raise EOFError


def _decode(line: bytes) -> dict[str, Any]:
    """Return a line of the master. ControlError if it is not one: it is too long, no JSON, or nested too deeply."""
    if len(line) > MAX_ANSWER:
        raise ControlError(f"the master's answer is longer than {MAX_ANSWER >> 20} MiB")
    try:
        answer = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError(f"the master's answer cannot be read: {error}") from None
    if _is_deeper(answer, MAX_DEPTH):
        raise ControlError(f"the master's answer is nested more than {MAX_DEPTH} levels deep")
    return answer


def _is_deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in value)


def _check_peer(sock: socket.socket, cluster: Description) -> None:
    """ControlError unless the cluster's own master listens: nothing else is sent a command, or believed its answer."""
    peer = peer_of(sock)
    if peer is None or (peer.uid == os.geteuid() and peer.pid in (0, cluster.pid)):
        return
    what = f"process {peer.pid} of {user_name(peer.uid)}"
    raise ControlError(f'"{cluster.name}": its control socket belongs to {what}, not to its master ({cluster.pid})')


def answer_to(cluster: Description, command: str, timeout: float | None = ANSWER_TIMEOUT, /, **details: Any) -> Any:
    """Return the answer to a command without progress. ControlError after `timeout` seconds (None: no limit)."""
    talk = ask(cluster, command, timeout, **details)
    while True:
        try:
            next(talk)
        except StopIteration as end:
            return end.value


def stop_cluster(cluster: Description) -> int:
    """Close the cluster and wait until its master has ended; return the exit code."""
    with contextlib.suppress(ClusterNotRunning):  # it is already ending, as asked for
        for line in ask(cluster, "stop"):
            say(str(line))
    wait_until_gone(cluster.pid)
    say(f"{cluster.name} stopped")
    return ExitCode.CLOSED


def reload_cluster(cluster: Description, *, agent: bool | None) -> int:
    """Reload the cluster and print its progress as it comes; return the exit code. ControlError if the reload fails."""
    began = False
    try:
        for line in ask(cluster, "reload", agent=agent):
            began = True
            say(str(line))
    except ControlError as error:
        if not began:  # the master refused the reload
            raise
        raise ControlError(f"reload stopped: {error}") from None
    return ExitCode.CLOSED
