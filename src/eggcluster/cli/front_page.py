"""`eggcluster` alone: what it can do in this directory. Imports no application. Runs in the user's shell."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from eggcluster import __version__
from eggcluster.cli.output import say
from eggcluster.errors import OptionsError
from eggcluster.model.lives.phase import ExitCode
from eggcluster.options.visible_path import working_directory
from eggcluster.runtime.runtime_dir import Description

USUAL_FILES = ("app.py", "main.py", "asgi.py", "wsgi.py")
USUAL_NAMES = ("app", "application", "api")
FACTORIES = ("create_app", "make_app")
MAX_FILES, MAX_BYTES = 100, 512 * 1024  # that are looked through; a directory may hold anything


@dataclass(frozen=True)
class Surroundings:
    """What there is in a directory: targets of applications, an agent, and clusters that run here or elsewhere."""

    directory: str
    targets: tuple[str, ...] = ()
    has_agent: bool = False
    here: tuple[Description, ...] = ()
    elsewhere: tuple[Description, ...] = ()


def show_front_page() -> int:
    """Print what `eggcluster` can do in the current directory; return the exit code. OptionsError if it is gone."""
    try:
        directory = working_directory(os.environ)
    except FileNotFoundError:
        raise OptionsError("the current directory no longer exists; change to another one") from None
    for line in front_page(_look_around(directory)):
        say(line)
    return ExitCode.CLOSED


def front_page(found: Surroundings) -> list[str]:
    """Return the lines of the page."""
    lines = [f"eggcluster {__version__} runs a Python web application in several processes.", ""]
    for cluster in found.here:
        choice = f" --name {cluster.name}" if len(found.here) > 1 else ""
        lines += [f'The cluster "{cluster.name}" runs here (pid {cluster.pid}):', *_commands(_of_running(choice)), ""]
    if not found.here:
        lines += [*_to_start(found), ""]
    if found.elsewhere:
        lines += [f"Elsewhere: {', '.join(f'{each.name} ({each.base_dir})' for each in found.elsewhere)}."]
        lines += [f"See it with `eggcluster status --name {found.elsewhere[0].name}`.", ""]
    return [*lines, "`eggcluster --help` lists all commands."]


def _to_start(found: Surroundings) -> list[str]:
    if not found.targets:
        names = " or ".join(f"`{name}`" for name in USUAL_NAMES[:2])
        return [
            f"{found.directory} has no Python file that defines {names}. Name your application:",
            *_commands([("eggcluster start PACKAGE.MODULE:ATTRIBUTE", "run it")]),
            *_commands([("eggcluster start --base-dir DIRECTORY", "run the one of another directory")]),
        ]
    target = "" if found.targets[0] == "app:app" else f" {found.targets[0]}"
    agent = ", with the agent of agent.py" if found.has_agent else ""
    lines = [f"In {found.directory} you can write:"]
    lines += _commands([(f"eggcluster start{target}", f"run {found.targets[0]}{agent}")])
    lines += _commands([(f"eggcluster dev{target}", "the same while you develop it")])
    others = ", ".join(found.targets[1:4])
    return [*lines, f"Other applications here: {others}."] if others else lines


def _of_running(choice: str) -> list[tuple[str, str]]:
    return [
        (f"eggcluster status{choice}", "show its workers"),
        (f"eggcluster events{choice}", "follow deaths, starts and reloads"),
        (f"eggcluster reload{choice}", "run changed code; no request is lost"),
        (f"eggcluster stop{choice}", "close it"),
    ]


def _commands(lines: list[tuple[str, str]]) -> list[str]:
    return [f"  {command:<30}  {what}" for command, what in lines]


# -- looking around --------------------------------------------------------------------------------------------


def _look_around(directory: str) -> Surroundings:
    from eggcluster.cli.cluster_lookup import names_of, runs_in
    from eggcluster.runtime.runtime_dir import running_clusters

    running, names = list(running_clusters()), names_of(None)
    here = tuple(each for each in running if runs_in(each, names))
    return Surroundings(
        directory,
        tuple(_targets(directory)),
        os.path.exists(os.path.join(directory, "agent.py")),
        here,
        tuple(each for each in running if each not in here),
    )


def _targets(directory: str) -> Iterator[str]:
    """Yield `module:attribute` of what looks like an application: the directory's files, then its packages'."""
    for path in _sources(directory):
        names = _names_in(os.path.join(directory, path))
        module = path.removesuffix(".py").replace(os.sep, ".")
        if name := next((each for each in USUAL_NAMES if each in names), None):
            yield f"{module}:{name}"
        elif name := next((each for each in FACTORIES if each in names), None):
            yield f"--factory {module}:{name}"


def _sources(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except OSError:  # it may be entered but not read
        return []
    files = _python_files(names)
    for package in sorted(names):
        if package.isidentifier() and os.path.isdir(os.path.join(directory, package)):
            files += [
                os.path.join(package, name)
                for name in USUAL_FILES
                if os.path.isfile(os.path.join(directory, package, name))
            ]
    return files[:MAX_FILES]


def _python_files(names: list[str]) -> list[str]:
    sources = [name for name in names if name.endswith(".py") and not name.startswith("test_")]
    found = [name for name in sources if name.removesuffix(".py").isidentifier()]
    order = {name: index for index, name in enumerate(USUAL_FILES)}
    return sorted(found, key=lambda name: (order.get(name, len(order)), name))


def _names_in(path: str) -> set[str]:
    from eggcluster.options.checks.module_names import module_names

    try:
        if os.path.getsize(path) > MAX_BYTES or not os.path.isfile(path):
            return set()
        with open(path, "rb") as file:
            found = module_names(file.read())
    except OSError:
        return set()
    return found.names if found else set()
