"""Finding processes, as far as it can be shown without starting any; the rest is in the modes' contract."""

import os
import signal

from eggcluster.kernel.process_tree import is_running, kill_until_gone, marked, session_members, signal_all

NO_PROCESS = 999_999_999  # above the kernel's highest pid


def test_this_process_runs_and_an_impossible_pid_does_not() -> None:
    assert is_running(os.getpid())
    assert not is_running(NO_PROCESS)


def test_the_caller_is_never_among_those_it_looks_for() -> None:
    assert os.getpid() not in session_members(os.getsid(0))
    assert os.getpid() not in marked(f"PATH={os.environ['PATH']}")


def test_a_mark_is_a_whole_variable_and_an_unknown_mark_matches_no_process() -> None:
    assert marked("EGG_NO_SUCH_MARK=1") == []
    assert session_members(NO_PROCESS) == []
    assert session_members(NO_PROCESS, "EGG_NO_SUCH_MARK=1") == []


def test_signalling_a_process_that_is_gone_is_no_error() -> None:
    signal_all([NO_PROCESS], signal.SIGTERM)


def test_killing_ends_at_its_limit_and_returns_the_processes_that_are_left() -> None:
    assert kill_until_gone(list, limit=10) == []
    assert kill_until_gone(lambda: [NO_PROCESS], limit=0.02) == [NO_PROCESS]
