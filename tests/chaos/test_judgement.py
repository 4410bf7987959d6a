"""What the chaos tests excuse, and what not: judges have to be tested too."""

from dataclasses import replace
from pathlib import Path

from tests.chaos.ledger import Held, Ledger
from tests.chaos.log_check import unexpected_tracebacks
from tests.chaos.tally import Failure, Outcome

FAILURE = Failure(
    outcome=Outcome.RESET,
    client="keep-alive",
    began=10.0,
    failed=11.0,
    opened=5.0,
    port=4711,
    worker="99",
    requests=3,
    received=0,
    detail="",
)


def is_excused(failure: Failure, folder: Path) -> bool:
    ledger = Ledger(folder / "ledger")
    ledger.write(Held("SIGKILL", 99, at=10.5, ports=[4710, 4711]))
    return not ledger.unexcused([failure])


def test_a_reset_of_what_a_killed_worker_held_is_excused(tmp_path: Path) -> None:
    assert is_excused(FAILURE, tmp_path)


def test_a_connection_that_the_killed_worker_did_not_hold_is_not_excused(tmp_path: Path) -> None:
    assert not is_excused(replace(FAILURE, port=4712), tmp_path)


def test_a_port_that_was_used_again_after_the_kill_is_not_excused(tmp_path: Path) -> None:
    assert not is_excused(replace(FAILURE, opened=10.6), tmp_path)


def test_a_failure_before_the_kill_is_not_excused(tmp_path: Path) -> None:
    assert not is_excused(replace(FAILURE, failed=10.4), tmp_path)


def test_refusals_timeouts_and_wrong_answers_are_never_excused(tmp_path: Path) -> None:
    for outcome in (Outcome.REFUSED, Outcome.TIMED_OUT, Outcome.WRONG):
        assert not is_excused(replace(FAILURE, outcome=outcome), tmp_path)


TRACEBACK = """[app] something failed
Traceback (most recent call last):
  File "app.py", line 1, in boot
    raise
{last}
[app] and goes on
"""


def test_a_traceback_that_was_asked_for_is_expected_and_any_other_one_is_not() -> None:
    asked = TRACEBACK.format(last="SystemExit: chaos asked for it")
    assert unexpected_tracebacks(asked) == []
    assert len(unexpected_tracebacks(asked + TRACEBACK.format(last="uvicorn.SomeError") + asked)) == 1


def test_a_traceback_without_an_end_is_unexpected() -> None:
    assert len(unexpected_tracebacks("Traceback (most recent call last):\n  File ")) == 1
