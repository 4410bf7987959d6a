"""The table of `eggcluster status`, printed from a status as the master gives it."""

from typing import Any

import pytest

from eggcluster.cli.screen import Screen
from eggcluster.cli.status_table import short_death, status_lines

SEAT: dict[str, Any] = {
    "worker_id": 4711,
    "generation": 2,
    "state": "listening",
    "age": 3.0,
    "deaths": 1,
    "deaths_last_minute": 1,
    "requests": 12,
    "connections": 3,
    "loop_delay": 0.0004,
    "stalled_for": None,
    "last_death": "code: None, signal: SIGKILL",
    "next_try": None,
    "successor": None,
    "rss": 50 * 1024 * 1024,
    "background": [],
}


PIPE = Screen()


STEERING: dict[str, Any] = {"by": "bpf", "sticky": False, "refused": None, "handed_over": 0, "waiting": 0}


def lines_of(
    *, steering: Any = STEERING, agent_missing: bool = False, screen: Screen = PIPE, name: str = "[shop]", **seat: Any
) -> list[str]:
    """The lines for a cluster of one worker that is so."""
    status = {
        "name": name,
        "phase": "serving",
        "address": "http://[::1]:7001",
        "steering": steering,
        "env": "prod",
        "start_mode": "process",
        "abandoned": [],
        "agent_missing": agent_missing,
        "version": "0.1.0",
        "pid": 4700,
        "rss": None,
        "agent": {**SEAT, "deaths_last_minute": 0, "last_death": None},
        "workers": [{**SEAT, "slot": 1, **seat}],
    }
    return status_lines(status, screen)


def test_what_looks_like_markup_is_shown_as_it_is() -> None:
    lines = lines_of(last_death="ValueError: [/x] is no [bold]tag[/bold]")
    assert lines[0].startswith("[shop] serving on http://[::1]:7001  (env prod")
    assert "ValueError: [/x] is no [bold]tag[/bold]" in lines[-1]


def test_no_text_of_the_application_moves_the_cursor() -> None:
    broken = {"name": "a\x1b[2J", "state": "b\nc", "restarts": 0, "last_error": "d\x07\u202e"}
    text = "\n".join(lines_of(last_death="e\x1b[1Af\ng", background=[broken]))
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert len(text.splitlines()) == 6


def test_without_a_terminal_each_worker_is_one_line() -> None:
    reason = "ModuleNotFoundError: No module named 'a_module_with_a_rather_long_name'"
    lines = lines_of(last_death=reason, state="dead", next_try=2.5)
    assert len(lines) == 5
    assert "dead" in lines[-1]
    assert "next try in 2.5s" in lines[-1]
    assert lines[-1].count(reason) == 1


def test_on_80_columns_a_dead_worker_shows_all_that_it_shows_elsewhere() -> None:
    reason = "ModuleNotFoundError: No module named 'a_module_with_a_rather_long_name', which app.py imports"
    busy: Any = {"worker_id": 4194304, "requests": 12_345_678, "age": 86_399.0, "deaths": 123, "rss": 2 << 30}
    lines = lines_of(screen=Screen(80), last_death=reason, state="listening", next_try=2.5, name="shop", **busy)
    assert max(map(len, lines)) <= 80
    row = next(index for index, line in enumerate(lines) if line.startswith("app#1"))
    assert lines[row].split() == ["app#1", "4194304", "2", "listening", "23h59m", "123", "12345678", "2048", "MB", "3"]
    assert lines[row + 1 :] == [
        "    delay 0.4ms",
        "    next try in 2.5s",
        "    last death: ModuleNotFoundError: No module named",
        "      'a_module_with_a_rather_long_name', which app.py imports (1 death in the",
        "      last minute)",
    ]


def test_on_80_columns_the_usual_cluster_is_one_line_for_each() -> None:
    usual: Any = {"worker_id": 123_456, "requests": 107, "age": 41.7, "last_death": None, "deaths_last_minute": 0}
    lines = lines_of(screen=Screen(80), name="shop", **usual)
    assert len(lines) == 5
    assert max(map(len, lines)) <= 80
    assert "delay" in lines[1]


def test_a_headline_that_is_too_long_takes_two_lines() -> None:
    lines = lines_of(screen=Screen(80), name="a_shop_with_a_name")
    assert lines[:2] == ["a_shop_with_a_name serving on http://[::1]:7001", "env prod, process mode, eggcluster 0.1.0"]


def test_colours_are_for_screens_that_have_them() -> None:
    assert "\x1b[32mlistening\x1b[0m" in lines_of(screen=Screen(120, colours=True))[-2]
    assert "\x1b" not in "".join(lines_of(screen=Screen(120)))


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("code: None, signal: SIGKILL", "SIGKILL"),
        ("code: 1, signal: None", "exit 1"),
        ("app_worker#2:7 died while starting (code: 3, signal: None)", "app_worker#2:7 died while starting (exit 3)"),
        ("start timeout: not ready after 60s", "start timeout: not ready after 60s"),
        ("code: None, signal: None", "code: None, signal: None"),
    ],
)
def test_a_death_is_shortened(told: str, shown: str) -> None:
    assert short_death(told) == shown


def test_a_slot_that_waits_says_for_how_long_and_why() -> None:
    lines = lines_of(state="dead", next_try=3.14, deaths_last_minute=4)
    assert "next try in 3.1s; last death: SIGKILL (4 deaths in the last minute)" in lines[-1]


def test_a_worker_that_is_replaced_at_once_each_time_shows_its_deaths_too() -> None:
    assert "1 death in the last minute" in lines_of(deaths_last_minute=1)[-1]
    assert lines_of(last_death=None, deaths_last_minute=2)[-1].endswith("2 deaths in the last minute")


def test_an_agent_that_is_missed_is_told_first() -> None:
    assert "no agent for three checks in a row" in lines_of(agent_missing=True)[0]
    assert "no agent" not in lines_of()[0]


def test_a_loop_that_stands_still_is_shown() -> None:
    assert "loop has not moved for 12.3s" in lines_of(stalled_for=12.3)[-1]


def test_background_tasks_have_a_line_each_below_the_table() -> None:
    running = {"name": "consume", "state": "running", "restarts": 0, "last_error": None}
    broken = {"name": "listen", "state": "waiting", "restarts": 2, "last_error": "OSError: [gone]"}
    lines = lines_of(background=[running, broken])
    assert lines[-2:] == [
        "app#1 background consume: running",
        "app#1 background listen: waiting, 2 restarts, last error: OSError: [gone]",
    ]


@pytest.mark.parametrize(
    ("steering", "said"),
    [
        ({}, "process mode, eggcluster"),
        ({"sticky": True}, "process mode, sticky by bpf, eggcluster"),
        ({"sticky": True, "by": "single"}, "process mode, eggcluster"),
        (
            {"by": "shared", "refused": "Invalid argument"},
            "mode, the kernel does not steer: Invalid argument, eggcluster",
        ),
    ],
)
def test_sticky_and_a_kernel_that_does_not_steer_are_said(steering: dict[str, Any], said: str) -> None:
    assert said in lines_of(steering={**STEERING, **steering})[0]
