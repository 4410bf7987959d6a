"""How a log line looks in a file, on a terminal, and on one with colours."""

import logging
import os
import pty
from collections.abc import Iterator

import pytest

from eggcluster.kernel.terminal import has_colours, terminal_width
from eggcluster.logs.line_format import TextFormatter
from eggcluster.logs.look import Look, look_of


@pytest.fixture
def terminal() -> Iterator[int]:
    ours, theirs = pty.openpty()
    yield theirs
    os.close(ours)
    os.close(theirs)


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_WRONLY)
    yield fd
    os.close(fd)


def line(look: Look, level: int = logging.ERROR) -> str:
    record = logging.LogRecord("x", level, "", 0, "text", None, None)
    record.speaker = "app_worker#2"
    return TextFormatter(look).format(record)


def test_a_line_in_a_file_is_whole() -> None:
    assert line(Look.FILE).endswith(f" ERROR {os.getpid()} [app_worker#2] text")
    assert line(Look.FILE).startswith("20")


def test_a_line_on_a_terminal_is_short_and_its_texts_stand_below_each_other() -> None:
    assert line(Look.TERMINAL)[8:] == " ERROR   app_worker#2: text"
    assert line(Look.TERMINAL, logging.WARNING)[8:] == " WARNING app_worker#2: text"


def test_colours_are_around_the_level_alone() -> None:
    assert line(Look.COLOURS)[8:] == " \x1b[31mERROR  \x1b[0m app_worker#2: text"
    assert "\x1b" not in line(Look.TERMINAL)


def test_what_a_descriptor_can_show(terminal: int, file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert look_of(file) is Look.FILE
    assert look_of(terminal) is Look.COLOURS
    monkeypatch.setenv("NO_COLOR", "1")
    assert look_of(terminal) is Look.TERMINAL


def test_a_descriptor_that_is_closed_shows_nothing() -> None:
    fd = os.open(os.devnull, os.O_WRONLY)
    os.close(fd)
    assert look_of(fd) is Look.FILE
    assert terminal_width(fd) is None


@pytest.mark.parametrize(
    ("environ", "colours"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),  # no-color.org: set and not empty
        ({"TERM": "xterm", "NO_COLOR": "0"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_what_switches_colours_off(terminal: int, environ: dict[str, str], colours: bool) -> None:
    assert has_colours(terminal, environ) is colours
