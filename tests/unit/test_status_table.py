"""The table of `eggcluster status`, printed from a status as the master gives it."""

from typing import Any

import pytest

from eggcluster.cli.status_table import print_table, short_death

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


STEERING: dict[str, Any] = {"by": "bpf", "sticky": False, "refused": None, "handed_over": 0, "waiting": 0}


def printed(
    capsys: pytest.CaptureFixture[str], *, steering: Any = STEERING, agent_missing: bool = False, **seat: Any
) -> list[str]:
    """The lines for a cluster of one worker that is so."""
    status = {
        "name": "[shop]",
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
        "agent": {**SEAT, "last_death": None},
        "workers": [{**SEAT, "slot": 1, **seat}],
    }
    print_table(status)
    return capsys.readouterr().out.splitlines()


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, last_death="ValueError: [/x] is no [bold]tag[/bold]")
    assert lines[0].startswith("[shop] serving on http://[::1]:7001  (env prod")
    assert "ValueError: [/x] is no [bold]tag[/bold]" in lines[-1]


def test_without_a_terminal_each_worker_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "ModuleNotFoundError: No module named 'a_module_with_a_rather_long_name'"
    lines = printed(capsys, last_death=reason, state="dead", next_try=2.5)
    assert len(lines) == 5
    assert "dead, next try in 2.5s" in lines[-1]
    assert lines[-1].count(reason) == 1


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


def test_a_slot_that_waits_says_for_how_long_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, state="dead", next_try=3.14, deaths_last_minute=4)
    assert "dead, next try in 3.1s, 4 deaths in the last minute" in lines[-1]


def test_a_worker_that_is_replaced_at_once_each_time_shows_its_deaths_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert "listening, 1 death in the last minute" in printed(capsys, deaths_last_minute=1)[-1]


def test_an_agent_that_is_missed_is_told_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no agent for three checks in a row" in printed(capsys, agent_missing=True)[0]
    assert "no agent" not in printed(capsys)[0]


def test_a_loop_that_stands_still_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "listening, loop has not moved for 12.3s" in printed(capsys, stalled_for=12.3)[-1]


def test_background_tasks_have_a_line_each_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    running = {"name": "consume", "state": "running", "restarts": 0, "last_error": None}
    broken = {"name": "listen", "state": "waiting", "restarts": 2, "last_error": "OSError: [gone]"}
    lines = printed(capsys, background=[running, broken])
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
def test_sticky_and_a_kernel_that_does_not_steer_are_said(
    capsys: pytest.CaptureFixture[str], steering: dict[str, Any], said: str
) -> None:
    assert said in printed(capsys, steering={**STEERING, **steering})[0]
