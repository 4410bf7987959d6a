"""Owns the flags that describe a cluster, made from the table of options. Runs in the command."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from eggcluster.options.sources import CommandLine
from eggcluster.options.table import OPTIONS, Option, default_text

Command = TypeVar("Command", bound=Callable[..., Any])


def cluster_flags(command: Command) -> Command:
    """Give a click command all of a cluster's flags, and `TARGET`; each arrives under its field's name.

    Values arrive as the text that was given, and None (or an empty tuple) where nothing was: reading
    and checking is `parse_options`'s, so that there is one wording for each mistake.
    """
    for option in reversed(OPTIONS):  # click shows the last decorator first
        if option.flags:
            command = click.option(*option.flags, option.field, **_attributes(option))(command)
        elif option.field == "app":
            command = click.argument("app", metavar="[TARGET]", required=False)(command)
    return command


def given_flags(parameters: Mapping[str, object]) -> CommandLine:
    """Of a command's parameters those that are a cluster's options and were really given."""
    fields = {option.field for option in OPTIONS}
    named = {name: value for name, value in parameters.items() if name in fields}
    return CommandLine({name: value for name, value in named.items() if value not in (None, ())})


def _attributes(option: Option) -> dict[str, Any]:
    words = f"do not {option.help}" if option.is_turned_off else option.help
    help = f"{words[:1].upper()}{words[1:]}.{_default_help(option)}".replace("`", "")
    if not option.is_switch:
        return {
            "type": str,
            "default": None,
            "multiple": option.is_many,
            "metavar": option.metavar,
            "help": help,
        }
    if "/" in option.flags[0]:
        return {"default": None, "help": help}
    return {"is_flag": True, "flag_value": not option.is_turned_off, "default": None, "help": help}


def _default_help(option: Option) -> str:
    default = default_text(option)
    return f" [default: {default}]" if default and not (option.is_switch and default in ("on", "off")) else ""
