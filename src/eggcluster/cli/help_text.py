"""The help of `eggcluster` and of `start`: in groups, each sentence whole, with examples. Runs in the user's shell."""

from collections.abc import Sequence

import click

from eggcluster.options.groups import GROUPS

COMMAND_GROUPS = (
    ("Run an application", ("start", "dev")),
    ("Look at a running cluster", ("status", "events", "messages", "schedules")),
    ("Tell it what to do", ("reload", "run-schedule", "stop")),
)
EXAMPLES = (
    ("eggcluster start", "the application `app` of app.py, here"),
    ("eggcluster start -w 4 main:app", "`app` of main.py, in four workers"),
    ("eggcluster dev main:app", "the same while you develop it"),
    ("eggcluster status", "how the cluster of this directory is"),
    ("eggcluster reload", "after a change of the code: no request is lost"),
)
START_EXAMPLES = (
    ("eggcluster start", "the application `app` of app.py, one worker for each CPU"),
    ("eggcluster start -w 4 -p 8000 main:app", "`app` of main.py, four workers, port 8000"),
    ("eggcluster start --host 0.0.0.0 main:app", "for clients on other machines, too"),
    ("eggcluster start --factory main:make_app", "what a function returns"),
    ("eggcluster start --daemon --name shop", "in the background; then `eggcluster stop --name shop`"),
)
MAX_WIDTH = 100  # columns; longer lines are hard to read
Records = Sequence[tuple[str, str]]


class CommandGroup(click.Group):
    """The group of all commands: those for one purpose stand together, the main one first."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = [name for _, members in COMMAND_GROUPS for name in members]
        rest = ("More", tuple(name for name in self.list_commands(ctx) if name not in names))
        for title, members in (*COMMAND_GROUPS, rest):
            records = [(name, _sentence(self.commands[name])) for name in members if name in self.commands]
            _section(formatter, title, records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _section(formatter, "Examples", EXAMPLES)
        formatter.write('\n"eggcluster COMMAND --help" says more about a command.\n')


class StartCommand(click.Command):
    """A command with all options of a cluster, in their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        fields = [field for _, members in GROUPS for field in members]
        rest = ("More", tuple(each.name or "" for each in self.get_params(ctx) if each.name not in fields))
        parameters = {each.name: each for each in self.get_params(ctx)}
        for title, members in (*GROUPS, rest):
            records = [_record(parameters[name], ctx) for name in members if name in parameters]
            _section(formatter, title, [record for record in records if record is not None])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _section(formatter, "Examples", START_EXAMPLES)


def _section(formatter: click.HelpFormatter, title: str, records: Records) -> None:
    if records:
        with formatter.section(title):
            formatter.write_dl(records, col_max=42)


def _record(parameter: click.Parameter, ctx: click.Context) -> tuple[str, str] | None:
    if isinstance(parameter, click.Argument):  # some versions of click give it no record, others one without a text
        return "TARGET", "The application, as module:attribute. [default: app:app]"
    return parameter.get_help_record(ctx)


def _sentence(command: click.Command) -> str:
    """Return the whole first paragraph of a command's help. click's own short help cuts it."""
    return " ".join((command.help or "").partition("\n\n")[0].split())
