"""The table of options: complete, the source of the flags, and in step with its page."""

import dataclasses
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from eggcluster.cli.main import cluster_flags, given_flags
from eggcluster.options import ClusterOptions, CommandLine
from eggcluster.options.page import options_markdown
from eggcluster.options.table import BY_FIELD, OPTIONS

DOCS = Path(__file__).parents[2] / "docs" / "options.md"


def flags(*arguments: str) -> CommandLine:
    seen = []

    @click.command()
    @click.option("--other")
    @cluster_flags
    def command(**parameters: object) -> None:
        seen.append(given_flags(parameters))

    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return seen[0]


def test_each_field_has_its_row() -> None:
    fields = [field.name for field in dataclasses.fields(ClusterOptions)]
    assert sorted(BY_FIELD) == sorted(set(fields) - {"listen_fds"})
    assert len(BY_FIELD) == len(OPTIONS)


def test_the_page_is_in_step() -> None:
    assert DOCS.read_text().endswith(options_markdown())


def test_the_passphrase_has_no_flag() -> None:
    assert BY_FIELD["https_key_password"].flags == ()
    with pytest.raises(AssertionError, match="such option"):
        flags("--https-key-password", "x")


def test_only_given_flags_arrive() -> None:
    assert flags() == {}
    assert flags("--other", "x") == {}
    assert flags("a:b", "-w", "-1", "--port", "7x") == {"app": "a:b", "workers": "-1", "port": "7x"}


def test_switches() -> None:
    assert flags("--access-log") == {"access_log": True}
    assert flags("--no-access-log", "--no-server-header", "--no-agent") == {
        "access_log": False,
        "server_header": False,
        "no_agent": True,
    }
    assert flags("--factory", "--daemon", "--strict") == {"factory": True, "daemon": True, "strict": True}


def test_flags_that_may_be_repeated() -> None:
    assert flags("--header", "a:b", "--header", "c:d", "--require", "m") == {
        "headers": ("a:b", "c:d"),
        "require": ("m",),
    }


def test_every_flag_with_a_value_takes_any_text() -> None:
    for option in OPTIONS:
        if option.flags and not option.is_switch:
            expected = ("any",) if option.is_many else "any"
            assert flags(option.flag, "any") == {option.field: expected}
