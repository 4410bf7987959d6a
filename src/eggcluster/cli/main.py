"""The command `eggcluster` and its subcommands. Runs in the user's shell; `start` becomes the master."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from eggcluster import __version__
from eggcluster.cli.help_text import MAX_WIDTH, CommandGroup, StartCommand
from eggcluster.cli.output import say_lines, say_painted
from eggcluster.cli.usage_errors import command_problem, usage_problem
from eggcluster.errors import EggclusterError, OptionsError
from eggcluster.kernel.process_end import run_and_exit
from eggcluster.kernel.terminal import has_colours, styled
from eggcluster.model.lives.phase import ExitCode
from eggcluster.options.option import Option, default_text
from eggcluster.options.sources import CommandLine
from eggcluster.options.table import OPTIONS
from eggcluster.wording import indented, one_line

if TYPE_CHECKING:
    from eggcluster.runtime.runtime_dir import Description

Command = TypeVar("Command", bound=Callable[..., Any])


def cluster_flags(command: Command) -> Command:
    """Give a click command all of a cluster's flags, and `TARGET`. Each arrives under its field's name.

    Values arrive as text, or as None or an empty tuple if the flag was not given. `parse_options` converts and checks
    them, so that each mistake has one wording.
    """
    for option in reversed(OPTIONS):  # click shows the last decorator first
        if option.flags:
            command = click.option(*option.flags, option.field, **_attributes(option))(command)
        elif option.field == "app":
            command = click.argument("app", metavar="[TARGET]", required=False)(command)
    return command


def given_flags(parameters: Mapping[str, object]) -> CommandLine:
    """Return those of a command's parameters that are options of a cluster and were given."""
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


class _Commands(CommandGroup):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            raise OptionsError(command_problem(args[0], self.commands))
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    options_metavar="",
    subcommand_metavar="COMMAND [OPTIONS]",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH},
)
@click.version_option(__version__, prog_name="eggcluster")
@click.pass_context
def command(ctx: click.Context) -> int:
    """Run a Python web application (ASGI or WSGI) in several processes: a master, one agent and N app workers."""
    if ctx.invoked_subcommand is not None:
        return ExitCode.CLOSED
    from eggcluster.cli.front_page import show_front_page

    return show_front_page()


@command.command(cls=StartCommand)
@cluster_flags
def start(**parameters: Any) -> int:
    """Start a cluster. TARGET is the application, module:attribute; without it, app:app."""
    return _start(parameters)


@command.command(cls=StartCommand)
@cluster_flags
def dev(**parameters: Any) -> int:
    """Start one for development: it reloads when a file changes, has one worker, and the access log is on."""
    return _start(parameters, for_development=True)


def _start(parameters: dict[str, Any], *, for_development: bool = False) -> int:
    from eggcluster.cli.start import start_daemon, start_foreground
    from eggcluster.options import parse_options

    options = parse_options(given_flags(parameters), for_development=for_development)
    return start_daemon(options) if options.daemon else start_foreground(options)


def _which(command: Command) -> Command:
    """Give a command the flags that choose a running cluster."""
    base_dir = click.option("--base-dir", help="The cluster in this base directory [default: the current directory].")
    pid_file = click.option("--pid-file", help="The cluster whose master's pid is in this file.")
    name = click.option("--name", help="The cluster with this name.")
    return name(pid_file(base_dir(command)))


@command.command()
@_which
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def status(as_json: bool, **which: str | None) -> int:
    """Show its processes: state, age, requests, memory, deaths and their causes; also while it boots."""
    from eggcluster.cli.status_table import show_status

    return show_status(_find(which), as_json=as_json)


@command.command()
@_which
def stop(**which: str | None) -> int:
    """Close it in order, and wait until it has ended."""
    from eggcluster.cli.control_client import stop_cluster

    return stop_cluster(_find(which))


@command.command()
@_which
@click.option(
    "--agent/--no-agent",
    default=None,
    help="Replace the agent, too, once one new app worker has booted [default: only if its code has changed].",
)
def reload(agent: bool | None, **which: str | None) -> int:
    """Replace its app workers, one slot after the other, new before old: the way to run changed code."""
    from eggcluster.cli.control_client import reload_cluster

    return reload_cluster(_find(which), agent=agent)


@command.command()
@_which
@click.argument("schedule", required=False)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def schedules(schedule: str | None, as_json: bool, **which: str | None) -> int:
    """List the scheduled tasks; with the name of a task, list its last runs."""
    from eggcluster.cli.schedules_table import show_schedules

    return show_schedules(_find(which), schedule, as_json=as_json)


@command.command("run-schedule")
@_which
@click.argument("task")
def run_schedule(task: str, **which: str | None) -> int:
    """Run a scheduled task now, as its next tick would, and wait for its end."""
    from eggcluster.cli import schedules_table

    return schedules_table.run_schedule(_find(which), task)


@command.command()
@_which
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option("--payload", is_flag=True, help="Show the data, too; it may contain secrets.")
def messages(as_json: bool, payload: bool, **which: str | None) -> int:
    """Follow the messages between agent, app workers and parent, live."""
    from eggcluster.cli.live_feeds import follow_messages

    return follow_messages(_find(which), as_json=as_json, payload=payload)


@command.command()
@_which
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def events(as_json: bool, **which: str | None) -> int:
    """Follow deaths, starts and reloads, live."""
    from eggcluster.cli.live_feeds import follow_events

    return follow_events(_find(which), as_json=as_json)


def _find(which: dict[str, str | None]) -> "Description":
    from eggcluster.cli.cluster_lookup import find_cluster

    return find_cluster(**which)


def main() -> NoReturn:
    """Run the command line and exit. An error of this package becomes lines on standard error and an exit code."""
    run_and_exit(_main)


def _main() -> NoReturn:
    try:
        code = command.main(prog_name="eggcluster", standalone_mode=False)
    except click.ClickException as error:
        code = _complain([usage_problem(error)], ExitCode.BAD_OPTIONS)
    except click.exceptions.Abort:
        code = ExitCode.FAILED
    except OptionsError as error:
        code = _complain(error.problems, ExitCode.BAD_OPTIONS)
    except EggclusterError as error:
        code = _complain([str(error)], ExitCode.FAILED)
    sys.exit(code or 0)


def _complain(lines: list[str], code: ExitCode) -> ExitCode:
    speaker = styled("eggcluster:", "red" if has_colours(2) else "")
    for line in lines:
        first, _, more = line.partition("\n")
        say_painted(f"{speaker} {one_line(first)}", error=True)
        if more:
            say_lines(indented(more), error=True)
    return code
