"""Text of others reaches terminal and log as text: no escape sequence, no line of its own, no bidi mark."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import eggcluster
from eggcluster.cli import main as command_line
from eggcluster.cli.live_feeds import event_line, follow_events, follow_messages
from eggcluster.cli.output import say, say_json, say_lines, say_painted
from eggcluster.cli.schedules_table import show_schedules
from eggcluster.cli.screen import Screen
from eggcluster.cli.status_table import status_lines
from eggcluster.errors import OptionsError
from eggcluster.http.log_text import escaped_text
from eggcluster.logs import Report, escape_own_lines
from eggcluster.logs.line_format import JsonFormatter, TextFormatter
from eggcluster.logs.look import Look
from eggcluster.logs.own_loggers import ACCESS, OF_APPLICATIONS, OWN_NAMES
from eggcluster.runtime.runtime_dir import Description
from eggcluster.wording import indented, json_line, one_line
from tests.unit.test_status_table import SEAT, STEERING

FORGED = "2026-11-22 11:42:07,123 INFO 1 [master] forged"
HOSTILE = f"a\x1b]0;title\x07\x1b[2J\x9b1m\u202eb\u2066c\x7f\r\n{FORGED}\u2028x\udc9by"
BOARD = Description(1, "board", "/")
ESCAPED = tuple(name for name in OWN_NAMES if name not in (ACCESS, *OF_APPLICATIONS))
SOURCE = Path(eggcluster.__file__).parent


def is_harmless(text: str) -> None:
    assert text.replace("\n", "").isprintable(), ascii(text)
    assert not any(line.startswith(FORGED[:10]) for line in text.splitlines()), text
    assert "]0;title" in text, "it is shown"


def test_one_line_shows_each_character_by_its_number_once() -> None:
    assert one_line("a\x1b[2J\n\u202e\udc9b\U000e0001") == r"a\x1b[2J\n\u202e\x9b\U000e0001"
    assert one_line(one_line(HOSTILE)) == one_line(HOSTILE)
    assert one_line('plain "text" \\n, ünïcode') == 'plain "text" \\n, ünïcode'
    is_harmless(one_line(HOSTILE))


def test_several_lines_are_indented() -> None:
    assert indented("a\n\tb\nc\x1b") == "  a\n          b\n  c\\x1b"
    is_harmless(indented(HOSTILE))


def test_json_keeps_its_value() -> None:
    text = json_line(json.dumps({"a": HOSTILE.replace("\udc9b", ""), "b": "\U000e0001"}, ensure_ascii=False))
    assert text.isprintable()
    assert json.loads(text) == {"a": HOSTILE.replace("\udc9b", ""), "b": "\U000e0001"}


def test_a_field_of_the_access_log() -> None:
    is_harmless(escaped_text(HOSTILE))
    assert escaped_text('"\\\n') == r"\"\\\n"


# -- the terminal -------------------------------------------------------------------------------------


def in_a_status() -> None:
    task = {"name": HOSTILE, "state": HOSTILE, "restarts": 2, "last_error": HOSTILE}
    worker = {**SEAT, "state": HOSTILE, "last_death": HOSTILE, "background": [task]}
    numbers = {"agent_missing": False, "pid": 4700, "rss": None, "steering": {**STEERING, "refused": HOSTILE}}
    words = dict.fromkeys(("name", "phase", "address", "env", "start_mode", "version"), HOSTILE)
    abandoned = {"abandoned": [HOSTILE]}
    shown = {**words, **numbers, **abandoned, "agent": worker, "workers": [{**worker, "slot": 1}]}
    for screen in (Screen(), Screen(80)):
        for line in status_lines(shown, screen):
            say_painted(line)


def in_an_error_of_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise OptionsError(HOSTILE)

    monkeypatch.setattr(command_line.command, "main", fail)
    with pytest.raises(SystemExit):
        command_line.main()


WAYS: dict[str, Callable[[], Any]] = {
    "progress": lambda: say(HOSTILE),
    "a daemon's log": lambda: say_lines(HOSTILE.replace(FORGED, "")),
    "JSON": lambda: say_json({"x": HOSTILE.replace("\udc9b", "")}, indent=2),
    "status": in_a_status,
}


@pytest.mark.parametrize("way", WAYS)
def test_what_a_command_prints(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    WAYS[way]()
    is_harmless(capsys.readouterr().out)


def test_an_error_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    in_an_error_of_an_option(monkeypatch)
    is_harmless(capsys.readouterr().err)


EVENT = {"time": 1.0, "event": HOSTILE, "reason": HOSTILE, "state": HOSTILE, "missed": 2}
MESSAGE = {"time": 1.0, "from": HOSTILE, "to": HOSTILE, "kind": HOSTILE, "action": HOSTILE, "size": 1, "data": HOSTILE}
RUN = {"due": 1.0, "trigger": HOSTILE, "began": 1.0, "where": HOSTILE, "seconds": 1.0, "outcome": HOSTILE}
SCHEDULE = {"name": HOSTILE, "type": HOSTILE, "when": HOSTILE, "timed": True, "next": 1.0, "counts": {HOSTILE: 1}}


@pytest.mark.parametrize("as_json", [False, True])
def test_live_feeds_and_schedules(
    as_json: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(_: Description, command: str, *__: Any, **___: Any) -> Iterator[Any]:
        yield without_surrogates(EVENT if command == "events" else MESSAGE)

    monkeypatch.setattr("eggcluster.cli.live_feeds.ask", answers)
    run = {**RUN, "error": HOSTILE}
    schedules = without_surrogates([{**SCHEDULE, "history": [run]}])
    monkeypatch.setattr("eggcluster.cli.schedules_table.answer_to", lambda *_: schedules)
    shows: tuple[Callable[[], int], ...] = (
        lambda: follow_events(BOARD, as_json=as_json),
        lambda: follow_messages(BOARD, as_json=as_json, payload=True),
        lambda: show_schedules(BOARD, None, as_json=as_json),
        lambda: show_schedules(BOARD, schedules[0]["name"], as_json=as_json),
    )
    for show in shows:
        show()
        is_harmless(capsys.readouterr().out)
    assert "forged" in event_line(EVENT, Screen())


def without_surrogates(value: Any) -> Any:
    """As it comes from JSON."""
    return json.loads(json.dumps(value).replace("\\udc9b", ""))


def test_the_command_line_prints_in_no_other_way() -> None:
    for path in (SOURCE / "cli").glob("*.py"):
        if path.name != "output.py":
            assert not re.search(r"click\.(echo|secho|style)|(?<![.\w])print\(|\bText\(", path.read_text()), path


# -- the log ------------------------------------------------------------------------------------------


FORMATTERS = (*map(TextFormatter, (Look.FILE, Look.TERMINAL)), JsonFormatter(), logging.Formatter("%(message)s"))


@pytest.fixture(params=FORMATTERS)
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What the package's loggers write, whichever formatter a configuration gives them."""
    escape_own_lines()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(request.param)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


class Odd:
    def __str__(self) -> str:
        return HOSTILE


@pytest.mark.parametrize("name", ESCAPED)
def test_what_our_loggers_write(name: str, log: io.StringIO) -> None:
    logger = logging.getLogger(name)
    for value in (HOSTILE, Odd(), ValueError(HOSTILE)):
        logger.error("%s happened", value)
        logger.error("%(what)s happened", {"what": value})
        logger.error("%r happened", HOSTILE)
    assert log.getvalue().count("\n") == 9
    is_harmless(log.getvalue())
    logger.error("it was at %s", Report(HOSTILE))
    is_harmless(log.getvalue())


@pytest.mark.parametrize("name", [*ESCAPED, *OF_APPLICATIONS])
def test_tracebacks(name: str, log: io.StringIO) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger(name).exception("it raised")
    assert "Traceback (most recent call last)" in log.getvalue()
    is_harmless(log.getvalue())


def test_an_application_writes_its_lines_as_it_likes(caplog: pytest.LogCaptureFixture) -> None:
    escape_own_lines()
    logging.getLogger("eggcluster.app").error("two\n%s", "lines\n")
    assert caplog.records[-1].getMessage() == "two\nlines\n"
