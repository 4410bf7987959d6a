"""What the commands print: text and JSON of a cluster, without what a terminal would obey. Runs in the user's shell."""

from typing import Any

import click

from eggcluster.wording import json_line, one_line


def say(line: str, *, error: bool = False) -> None:
    """Print one line, to standard error if `error`."""
    click.echo(one_line(line), err=error)


def say_painted(line: str, *, error: bool = False) -> None:
    """Print one line that has styles of ours (see `Screen.paint`): its foreign text has been through `one_line`."""
    click.echo(line, err=error)


def say_lines(text: str, *, error: bool = False) -> None:
    """Print text of several lines, each as `say` does."""
    for line in text.removesuffix("\n").split("\n"):
        say(line.expandtabs(), error=error)


def say_json(value: Any, *, indent: int | None = None) -> None:
    """Print a value as JSON, in one line if there is no `indent`."""
    import msgspec

    encoded = msgspec.json.encode(value)
    click.echo(json_line((msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()))
