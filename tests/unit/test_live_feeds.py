"""The lines of `eggcluster events` and `eggcluster messages`."""

from typing import Any

import pytest

from eggcluster.cli.live_feeds import event_line, is_said_already
from eggcluster.cli.screen import Screen

PIPE, COLOURS = Screen(), Screen(80, colours=True)
WORKER = {"time": 0.25, "who": "app#2", "worker_id": 4711, "generation": 3}


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({**WORKER, "event": "died", "signal": "SIGKILL", "state": "listening"}, "died (SIGKILL, listening)"),
        (
            {**WORKER, "event": "died", "code": 1, "state": "starting", "reason": "ValueError: x"},
            "died (exit 1, starting): ValueError: x",
        ),
        ({**WORKER, "event": "exited", "code": 0}, "exited (exit 0)"),
        ({**WORKER, "event": "stopping", "grace": 5.0}, "stopping (up to 5.0s)"),
        ({**WORKER, "event": "started"}, "started"),
    ],
)
def test_an_event_of_a_worker(event: dict[str, Any], said: str) -> None:
    line = event_line(event, PIPE)
    assert line[8:] == f".250 app#2:4711 gen 3       {said}"


def test_an_event_of_the_cluster() -> None:
    line = event_line({"time": 0.0, "event": "reload", "reason": "slot 1 of 2 reloaded: app_worker#1:5"}, PIPE)
    assert line.split(" ", 1)[1].split() == ["cluster", "slot", "1", "of", "2", "reloaded:", "app_worker#1:5"]


def test_colours_are_for_screens_that_have_them() -> None:
    event = {**WORKER, "event": "died", "signal": "SIGKILL", "state": "listening"}
    assert event_line(event, COLOURS).endswith("\x1b[31mdied (SIGKILL, listening)\x1b[0m")
    assert "\x1b" not in event_line(event, PIPE)


def test_the_text_of_a_death_stays_one_line() -> None:
    line = event_line({**WORKER, "event": "died", "code": 1, "reason": "a\nb\x1b[2J"}, PIPE)
    assert line.endswith(r"died (exit 1): a\nb\x1b[2J")


def test_a_reload_says_its_end_once() -> None:
    assert is_said_already({"event": "reloaded"}, "reload")
    assert is_said_already({"event": "reload failed"}, "reload")
    assert not is_said_already({"event": "reload failed"}, "closing")
    assert not is_said_already({"event": "reload"}, "reload")
