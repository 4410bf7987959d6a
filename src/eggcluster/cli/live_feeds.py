"""`eggcluster events` and `eggcluster messages`: follow what happens, live. Runs in the user's shell."""

import time
from collections.abc import Callable
from typing import Any

from eggcluster.cli.control_client import ask
from eggcluster.cli.output import say, say_json, say_painted
from eggcluster.cli.screen import Screen, standard_output
from eggcluster.errors import ClusterEnded
from eggcluster.model.lives.phase import ExitCode
from eggcluster.runtime.runtime_dir import Description
from eggcluster.wording import duration, one_line

EVENT_STYLES = {
    "red": ("died", "killed", "hung", "reload failed"),
    "yellow": ("stalled", "stopping", "closing"),
    "green": ("started", "ready", "resumed", "reloaded"),
    "dim": ("starting", "exited"),
}


def _show(what: dict[str, Any], line: Callable[[dict[str, Any], Screen], str], screen: Screen) -> None:
    if "missed" in what:
        say(f"({what['missed']} not shown)")
    say_painted(line(what, screen))


def follow_events(cluster: Description, *, as_json: bool) -> int:
    """Print each event as it happens, until Ctrl-C or the cluster's end."""
    screen, before = standard_output(), ""
    try:
        for event in ask(cluster, "events"):
            if as_json:
                say_json(event)
            elif not is_said_already(event, before):
                _show(event, event_line, screen)
            before = event["event"]
    except (KeyboardInterrupt, ClusterEnded):
        pass
    return ExitCode.CLOSED


def is_said_already(event: dict[str, Any], before: str) -> bool:
    """Return whether an event only repeats the one before: the last line of a reload's progress says how it ended."""
    return event["event"] in ("reloaded", "reload failed") and before == "reload"


def event_line(event: dict[str, Any], screen: Screen) -> str:
    """Format an event for people: `12:00:01.250 app#2:4711 gen 3  died (SIGKILL, listening)`."""
    worker = f"{event['who']}:{event['worker_id']} gen {event['generation']}" if "who" in event else "cluster"
    name, reason = event["event"], event.get("reason") or ""
    what = reason if name == "reload" else f"{name}{_details(event)}" + (f": {reason}" if reason else "")
    said = screen.paint(one_line(what), _style(name, reason))
    return f"{_clock(event, screen)} {one_line(f'{worker:<22}')} {said}"


def _details(event: dict[str, Any]) -> str:
    details = [event["signal"]] if "signal" in event else [f"exit {event['code']}"] if "code" in event else []
    details += [str(event["state"])] if "state" in event else []
    details += [f"up to {duration(event['grace'])}"] if "grace" in event else []
    return f" ({', '.join(details)})" if details else ""


def _style(name: str, reason: str) -> str:
    if name == "reload":
        name = "reload failed" if reason.startswith("reload stopped") else "reloaded"
    return next((style for style, names in EVENT_STYLES.items() if name in names), "")


def _clock(described: dict[str, Any], screen: Screen) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(described["time"]))
    return screen.paint(f"{clock}.{int(described['time'] % 1 * 1000):03}", "dim")


def follow_messages(cluster: Description, *, as_json: bool, payload: bool) -> int:
    """Print each message as it passes through the master, until Ctrl-C or the cluster's end."""
    screen = standard_output()
    try:
        for message in ask(cluster, "messages", payload=payload):
            if as_json:
                say_json(message)
            else:
                _show(message, _line, screen)
    except (KeyboardInterrupt, ClusterEnded):
        pass
    return ExitCode.CLOSED


def _line(message: dict[str, Any], screen: Screen) -> str:
    what = message.get("action", "-")
    way = f"{message['from']:>7} -> {message['to']:<7}"
    data = f"  {message['data']}" if "data" in message else ""
    return f"{_clock(message, screen)} " + one_line(f"{way} {message['kind']:<8} {what}  {message['size']} B{data}")
