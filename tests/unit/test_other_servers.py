"""The options of other servers: complete, true, and in step with the pages."""

import argparse
import re
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from eggcluster.options.other_servers import OTHER_OPTIONS, RELEASES, field_hint, hint, other_servers_markdown
from eggcluster.options.table import OPTIONS
from eggcluster.wording import near_miss

ROOT = Path(__file__).parents[2]
OWN = {part for option in OPTIONS for flag in option.flags for part in flag.split("/")} | {"-h", "--help", "--version"}


def of_gunicorn() -> set[str]:
    settings = import_module("gunicorn.config").make_settings()
    return {flag for setting in settings.values() for flag in setting.cli or ()}


def of_uvicorn() -> set[str]:
    return of_click(import_module("uvicorn.main").main)


def of_granian() -> set[str]:
    return of_click(import_module("granian.cli").cli)


def of_click(command: Any) -> set[str]:
    return {flag for each in command.params for flag in (*each.opts, *each.secondary_opts) if flag.startswith("-")}


def of_hypercorn() -> set[str]:
    found: set[str] = set()

    def record(parser: argparse.ArgumentParser, *_: Any) -> Any:
        found.update(flag for action in parser._actions for flag in action.option_strings)
        raise SystemExit

    main = import_module("hypercorn.__main__").main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", record)
        with pytest.raises(SystemExit):
            main(["app:app"])
    return found


READERS: dict[str, Callable[[], set[str]]] = {
    "gunicorn": of_gunicorn,
    "uvicorn": of_uvicorn,
    "granian": of_granian,
    "hypercorn": of_hypercorn,
}


@pytest.mark.parametrize("server", RELEASES)
def test_every_option_of_that_release_is_here_or_has_a_row(server: str) -> None:
    try:
        installed = version(server)
    except PackageNotFoundError:
        pytest.skip(f"{server} is not installed")
    if installed != RELEASES[server]:
        pytest.skip(f"the table is of {server} {RELEASES[server]}")
    theirs = READERS[server]()
    rows = {flag for row in OTHER_OPTIONS if server in row.servers for flag in row.flags}
    assert theirs - OWN - rows == set(), "they have no row"
    assert rows - theirs == set(), "it has no such option"


def test_what_is_to_be_written_exists() -> None:
    for row in OTHER_OPTIONS:
        for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", f"{row.write} {row.note}"):
            assert flag in OWN or flag in ("--json", "-p"), (row, flag)


def test_a_row_is_not_of_an_option_of_our_own() -> None:
    assert not {flag for row in OTHER_OPTIONS for flag in row.flags} & OWN


def test_the_servers_that_share_an_option_agree_on_what_to_write() -> None:
    for row in OTHER_OPTIONS:
        for flag in row.flags:
            written = {each.write for each in OTHER_OPTIONS if flag in each.flags}
            assert len(written) == 1, (flag, written)


def test_the_pages_are_in_step() -> None:
    assert other_servers_markdown(common=True) in (ROOT / "README.md").read_text()
    page = (ROOT / "docs" / "other-servers.md").read_text()
    assert page.endswith(other_servers_markdown())
    assert all(f"{server} {release}" in page for server, release in RELEASES.items())


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--bind", "write --host HOST --port PORT instead of gunicorn's and hypercorn's (or `--uds PATH`, `--fd FD`)"),
        ("-k", "gunicorn's and hypercorn's is not needed: ASGI or WSGI is detected"),
        ("--ssl-keyfile", "write --https-key FILE instead of uvicorn's and granian's"),
        ("--wokers", ""),
    ],
)
def test_hints(flag: str, said: str) -> None:
    assert hint(flag) == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ssl_keyfile", "write https_key FILE instead of uvicorn's and granian's"),
        ("graceful_timeout", "write app_close_timeout MS instead of gunicorn's and hypercorn's (in milliseconds"),
        ("worker", ""),
    ],
)
def test_hints_for_names_in_a_file_or_in_python(name: str, said: str) -> None:
    assert field_hint(name).startswith(said)
    assert bool(said) is bool(field_hint(name))


def test_no_hint_is_a_near_miss() -> None:
    """The table is asked first: a near name may mean something else."""
    assert near_miss("--bind", OWN)
    assert "--fd" not in hint("--bind").split("(")[0]
