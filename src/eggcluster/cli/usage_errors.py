"""A wrong command line, in one line: what is wrong, and what to write instead. Runs in the user's shell."""

from collections.abc import Iterable

import click

from eggcluster.wording import near_miss, shown

# Words of other tools for what a command does here.
SYNONYMS = {
    "run": "start",
    "serve": "start",
    "up": "start",
    "develop": "dev",
    "restart": "reload",
    "ps": "status",
    "list": "status",
    "top": "status",
    "watch": "events",
    "logs": "events",
    "cron": "schedules",
    "down": "stop",
    "kill": "stop",
    "quit": "stop",
}


def usage_problem(error: click.ClickException) -> str:
    """Return one line for an error that click found."""
    if isinstance(error, click.NoSuchOption):
        return f"{error.option_name}: is not an option{_instead(error.option_name, error.ctx)}"
    if isinstance(error, click.BadOptionUsage):
        return f"{error.option_name}: needs a value" if "requires" in error.message else _line(error)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{_line(error)}; see `{error.ctx.command_path} --help`"
    return _line(error)


def command_problem(word: str, commands: Iterable[str]) -> str:
    """Return one line for a first word that is not a command; it may be an application, or another tool's command."""
    if ":" in word or word.endswith(".py"):
        module = word.removesuffix(".py")
        target = module if ":" in module else f"{module}:app"
        return f"{shown(word)} is not a command; write `eggcluster start {target}`"
    instead = f'; did you mean "{SYNONYMS[word]}"?' if word in SYNONYMS else near_miss(word, commands)
    return f"{shown(word)} is not a command{instead or '; `eggcluster --help` lists them'}"


def _instead(flag: str, ctx: click.Context | None) -> str:
    """Return what to write instead of an unknown option."""
    from eggcluster.options.other_servers import hint
    from eggcluster.options.table import OPTIONS

    of_start = {part for option in OPTIONS for flag in option.flags for part in flag.split("/")}
    if ctx is None:
        return ""
    known = hint(flag)
    if ctx.command.name in ("start", "dev"):
        return f"; {known}" if known else near_miss(flag, of_start)
    if flag in of_start:
        return f' of "{ctx.command_path}"; `eggcluster start` has it'
    if known and ctx.parent is None:  # the command is missing, as with other servers
        return f' of "{ctx.command_path}"; with `eggcluster start`, {known}'
    own = [name for each in ctx.command.get_params(ctx) for name in (*each.opts, *each.secondary_opts)]
    return f' of "{ctx.command_path}"' + near_miss(flag, [name for name in own if name.startswith("-")])


def _line(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split()).rstrip(".")
    return text[:1].lower() + text[1:]
