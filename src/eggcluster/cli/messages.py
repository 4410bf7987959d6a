"""`eggcluster messages`: follow what is sent in the cluster, live. Runs in the user's shell."""

import time
from typing import Any

import click
import msgspec

from eggcluster.cli.control import ask
from eggcluster.errors import ClusterEnded
from eggcluster.master.runtime_dir import Description
from eggcluster.model.phase import ExitCode


def follow_messages(cluster: Description, *, as_json: bool, payload: bool) -> int:
    """Print each message as it passes through the master, until Ctrl-C or the cluster's end."""
    try:
        for message in ask(cluster, "messages", payload=payload):
            click.echo(msgspec.json.encode(message).decode() if as_json else _line(message))
    except (KeyboardInterrupt, ClusterEnded):
        pass
    return ExitCode.CLOSED


def _line(message: dict[str, Any]) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(message["time"]))
    what = message.get("action", "-")
    missed = f"({message['missed']} not shown)\n" if "missed" in message else ""
    way = f"{message['from']:>7} -> {message['to']:<7}"
    line = (
        f"{missed}{clock}.{int(message['time'] % 1 * 1000):03} {way} {message['kind']:<8} {what}  {message['size']} B"
    )
    return f"{line}  {message['data']}" if "data" in message else line
