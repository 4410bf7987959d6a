"""What the chaos tests excuse, and what not: judges have to be tested too."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.ledger import CLOSING, CUT, HEARD, LOSS, NO_COPY, Held, Ledger
from tests.chaos.log_check import misprinted, unexpected_tracebacks
from tests.chaos.losses import losses
from tests.chaos.served.said_format import NUMBER
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


# -- streams without an end, shared state ----------------------------------------------------------------------------

CUT_STREAM = replace(FAILURE, client="endless-deaf", began=5.0, failed=10.5 + CUT[0] + 1)


def is_excused_by_a_close(failure: Failure, folder: Path) -> bool:
    ledger = Ledger(folder / "ledger")
    ledger.write(Held(CLOSING, 99, at=10.5, ports=[4711]))
    return not ledger.unexcused([failure])


def test_a_deaf_stream_may_be_cut_at_the_end_of_a_drain(tmp_path: Path) -> None:
    assert is_excused_by_a_close(CUT_STREAM, tmp_path)


@pytest.mark.parametrize("after", [CUT[0] - 0.1, CUT[1] + 0.1])
def test_a_stream_that_is_cut_too_early_or_kept_too_long_is_not_excused(tmp_path: Path, after: float) -> None:
    assert not is_excused_by_a_close(replace(CUT_STREAM, failed=10.5 + after), tmp_path)


@pytest.mark.parametrize("client", ["endless-watching", "stream", "ws-slow"])
def test_a_close_in_order_excuses_nothing_else(tmp_path: Path, client: str) -> None:
    assert not is_excused_by_a_close(replace(CUT_STREAM, client=client), tmp_path)


def test_a_lost_count_is_excused_only_near_the_loss_of_all_copies(tmp_path: Path) -> None:
    lost = replace(FAILURE, outcome=Outcome.WRONG, client="shared", failed=20.0)
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.unexcused([lost]) == [lost]
    ledger.write(Held(NO_COPY, 0, at=19.0, ports=[]))
    later, other = replace(lost, failed=19.1 + LOSS[1]), replace(lost, client="one-shot")
    assert ledger.unexcused([lost, later, other]) == [later, other]


LOSS_LOG = """2026-01-01 00:00:00,000 INFO 1 [master] app_worker#1:11 started (1.0s)
2026-01-01 00:00:10,000 ERROR 1 [master] agent_worker#1:9 died (code: 0, signal: None)
{gone}
2026-01-01 00:00:20,000 INFO 1 [master] app_worker#1:12 started (1.0s)
2026-01-01 00:00:21,000 ERROR 10 [agent_worker] the shared dictionary is lost: every worker with a copy died
"""


def test_a_loss_is_inevitable_only_when_every_worker_with_a_copy_is_gone() -> None:
    gone = "2026-01-01 00:00:15,000 ERROR 1 [master] app_worker#1:11 died (code: 0, signal: None)"
    inevitable, needless = losses(LOSS_LOG.format(gone=gone))
    assert (len(inevitable), needless) == (1, [])
    inevitable, needless = losses(LOSS_LOG.format(gone=""))
    assert (inevitable, len(needless)) == ([], 1)


def test_an_application_must_hear_of_its_clients_leaving_unless_its_worker_was_killed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    left = [(f"00000000000000{name}", 99, 20.0) for name in ("aa", "bb", "cc")]
    told = {"00000000000000aa": 21.0, "00000000000000bb": 20.1 + HEARD}
    log = "\n".join(f"INFO 99 [app] said 99-1 1 left {nonce} {at:.3f} =" for nonce, at in told.items())
    assert ledger.unheard(left, log) == ["00000000000000bb", "00000000000000cc"]
    ledger.write(Held(CLOSING, 99, at=1.0, ports=[]))
    assert ledger.unheard(left, log) == ["00000000000000bb", "00000000000000cc"]
    ledger.write(Held("SIGKILL", 99, at=1.0, ports=[]))
    assert ledger.unheard(left, log) == []


# -- the applications' own lines -------------------------------------------------------------------------------------

LINE = "2026-01-01 00:00:00,000 INFO 7 [app_worker#1] said 7-1 {} /echo {}"
LINES = [LINE.format(number, "=" * number) for number in (1, 2, 3)]


def misprints(folder: Path, lines: list[str], begun: int, logged: int) -> list[str]:
    (folder / "7-1").write_bytes(NUMBER.pack(begun) + NUMBER.pack(logged))
    return misprinted("\n".join(lines), folder)


def test_each_line_that_was_logged_stands_once(tmp_path: Path) -> None:
    assert misprints(tmp_path, LINES, begun=3, logged=3) == []


def test_the_line_that_a_killed_process_had_begun_may_be_missing_and_may_be_there(tmp_path: Path) -> None:
    assert misprints(tmp_path, LINES, begun=4, logged=3) == []
    assert misprints(tmp_path, LINES, begun=3, logged=2) == []


@pytest.mark.parametrize(
    "lines",
    [
        LINES[:2],
        [LINES[0], LINES[2]],
        [*LINES, LINES[1]],
        [*LINES[:2], LINES[2][:-1]],
        [*LINES[:2], LINES[2] + LINES[1]],
        [*LINES, LINES[2].replace("7-1", "8-1")],
    ],
    ids=["the last is lost", "one is lost", "one twice", "torn", "mixed", "of an unknown process"],
)
def test_lines_that_are_lost_doubled_torn_or_invented_are_found(tmp_path: Path, lines: list[str]) -> None:
    assert misprints(tmp_path, lines, begun=3, logged=3) != []
