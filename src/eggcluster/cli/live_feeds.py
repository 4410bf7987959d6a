"""`eggcluster events` and `eggcluster messages`: follow what happens, live. Runs in the user's shell."""

import time
from typing import Any

import click
import msgspec

from eggcluster.cli.control_client import ask
from eggcluster.errors import ClusterEnded
from eggcluster.model.lives.phase import ExitCode
from eggcluster.runtime.runtime_dir import Description


def follow_events(cluster: Description, *, as_json: bool) -> int:
    """Print each event as it happens, until Ctrl-C or the cluster's end."""
    try:
        for event in ask(cluster, "events"):
            click.echo(msgspec.json.encode(event).decode() if as_json else event_line(event))
    except (KeyboardInterrupt, ClusterEnded):
        pass
    return ExitCode.CLOSED


def event_line(event: dict[str, Any]) -> str:
    """Format an event for people: `12:00:01.250 app#2:4711 gen 3  died (signal: SIGKILL, state: listening)`."""
    clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    worker = f"{event['who']}:{event['worker_id']} gen {event['generation']}" if "who" in event else "cluster"
    details = {name: event[name] for name in ("code", "signal", "state", "grace") if name in event}
    more = f" ({', '.join(f'{name}: {value}' for name, value in details.items())})" if details else ""
    reason = f": {event['reason']}" if "reason" in event else ""
    missed = f"({event['missed']} not shown)\n" if "missed" in event else ""
    return f"{missed}{clock}.{int(event['time'] % 1 * 1000):03} {worker:<22} {event['event']}{more}{reason}"


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
