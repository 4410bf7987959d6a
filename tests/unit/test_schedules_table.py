"""The tables of `eggcluster schedules`."""

import time
from typing import Any

import pytest

from eggcluster.cli import schedules_table as schedules
from eggcluster.cli.screen import Screen
from eggcluster.errors import ControlError
from eggcluster.runtime.runtime_dir import Description

CLUSTER: Any = None  # asked through `answer_to`, which the tests replace
NOW = time.time()
RUN = {"due": NOW - 5, "trigger": "time", "began": NOW - 5, "where": "app#2:4711", "seconds": 0.25, "outcome": "ok"}
POLL = {
    "name": "poll",
    "type": "worker",
    "when": "every 10s",
    "timed": True,
    "next": NOW + 5,
    "counts": {"ok": 11, "failed": 1, "skipped": 3},
    "history": [
        {**RUN, "error": ""},
        {**RUN, "outcome": "failed", "error": "ValueError: [/x]"},
    ],
}


@pytest.fixture(autouse=True)
def answer(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the agent answers."""
    tasks: list[Any] = [POLL]

    def answer_to(cluster: Description, command: str, timeout: float | None = 10.0, /, **details: Any) -> Any:
        if command == "run-schedule":
            assert timeout is None  # a run may last for hours
            return tasks[0] if details == {"schedule": "poll"} else None
        return tasks

    monkeypatch.setattr(schedules, "answer_to", answer_to)
    return tasks


def shown(capsys: pytest.CaptureFixture[str], name: str | None = None) -> list[str]:
    description: Description = CLUSTER
    assert schedules.show_schedules(description, name, as_json=False) == 0
    return capsys.readouterr().out.splitlines()


def test_one_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    line = shown(capsys)[1]
    for cell in ("poll", "worker", "every 10s", "in ", "ago", "app#2:4711", "250ms", "15 (1 failed, 3 skipped)"):
        assert cell in line
    assert line.endswith("failed: ValueError: [/x]")


def test_on_80_columns_name_time_and_result_stay_and_the_rest_is_below(
    capsys: pytest.CaptureFixture[str], answer: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "standard_output", lambda: Screen(80))
    answer[0] = {**POLL, "name": "nightly_cleanup_of_sessions"}
    headings, row, *below = shown(capsys)
    assert headings.split() == ["name", "when", "next", "run", "last", "run", "result", "took"]
    assert row.startswith("nightly_cleanup_of_sessions  every 10s  in ")
    assert row.endswith("failed  250ms")
    assert below == [
        "    runs 15 (1 failed, 3 skipped), type worker, where app#2:4711",
        "    failed: ValueError: [/x]",
    ]


def test_one_that_is_not_timed_here_and_has_not_run(capsys: pytest.CaptureFixture[str], answer: list[Any]) -> None:
    answer[0] = {**POLL, "timed": False, "next": None, "counts": {}, "history": []}
    assert shown(capsys)[1].split() == ["poll", "every", "10s", "off", "-", "-", "-", "0", "worker", "-"]


def test_the_last_runs_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "poll")
    assert len(lines) == 3
    assert " ok " in lines[1]
    assert lines[2].endswith("failed: ValueError: [/x]")
    with pytest.raises(ControlError, match=r'no schedule is called "pool" \(there are: poll\)'):
        shown(capsys, "pool")


def test_no_text_of_the_application_moves_the_cursor(capsys: pytest.CaptureFixture[str], answer: list[Any]) -> None:
    answer[0] = {**POLL, "name": "a\x1b[2Jb\nc", "history": [{**RUN, "outcome": "failed", "error": "d\x07e\nf"}]}
    lines = shown(capsys)
    assert len(lines) == 2
    assert r"a\x1b[2Jb\nc" in lines[1]
    assert r"failed: d\x07e\nf" in lines[1]


def test_one_that_has_not_run_yet_is_shown_with_its_terms(
    capsys: pytest.CaptureFixture[str], answer: list[Any]
) -> None:
    answer[0] = {**POLL, "counts": {}, "history": []}
    _, line, end = shown(capsys, "poll")
    assert line.split()[:3] == ["poll", "every", "10s"]
    assert end == "no run is known yet"


def test_nothing_is_scheduled(capsys: pytest.CaptureFixture[str], answer: list[Any]) -> None:
    answer.clear()
    assert shown(capsys) == ["nothing is scheduled"]


@pytest.mark.parametrize("wrong", [5, {"name": 1}, {**POLL, "history": [5]}])
def test_what_is_no_list_of_schedules_is_told_in_one_line(wrong: Any, answer: list[Any]) -> None:
    answer[0] = wrong
    with pytest.raises(ControlError, match="the agent's answer is not a list of schedules"):
        schedules.show_schedules(CLUSTER, None, as_json=False)


def test_a_run_by_hand_is_told_in_a_line(capsys: pytest.CaptureFixture[str], answer: list[Any]) -> None:
    answer[0] = {**RUN, "error": ""}
    assert schedules.run_schedule(CLUSTER, "poll") == 0
    assert capsys.readouterr().out == "poll ok, app#2:4711, 250ms\n"


@pytest.mark.parametrize(
    ("name", "run", "said"),
    [
        ("pool", None, 'no schedule is called "pool"; `eggcluster schedules` lists them'),
        (
            "poll",
            {**RUN, "outcome": "failed", "error": "ValueError: a\x1bb"},
            'schedule "poll" failed: ValueError: a\x1bb',  # made harmless where it is printed
        ),
        ("poll", {**RUN, "outcome": "skipped", "error": "busy", "began": None, "seconds": None}, "skipped: busy"),
        ("poll", 5, "the agent's answer is not a run"),
    ],
)
def test_a_run_by_hand_that_is_not_ok_is_an_error(name: str, run: Any, said: str, answer: list[Any]) -> None:
    answer[0] = {"error": "", **run} if isinstance(run, dict) else run
    with pytest.raises(ControlError) as refused:
        schedules.run_schedule(CLUSTER, name)
    assert said in str(refused.value)
