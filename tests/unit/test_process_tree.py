"""Finding processes, as far as it can be shown without starting any; the rest is in the modes' contract."""

import os
import signal

from eggcluster.kernel.process_tree import is_running, kill_until_gone, marked, session_members, signal_all

NOBODY = 999_999_999  # above the kernel's highest pid


def test_this_process_runs_and_nobody_does_not() -> None:
    assert is_running(os.getpid())
    assert not is_running(NOBODY)


def test_the_caller_is_never_among_those_it_looks_for() -> None:
    assert os.getpid() not in session_members(os.getsid(0))
    assert os.getpid() not in marked(f"PATH={os.environ['PATH']}")


def test_a_mark_is_a_whole_variable_and_no_mark_is_nobody() -> None:
    assert marked("EGG_NO_SUCH_MARK=1") == []
    assert session_members(NOBODY) == []
    assert session_members(NOBODY, "EGG_NO_SUCH_MARK=1") == []


def test_signalling_who_is_gone_is_no_error() -> None:
    signal_all([NOBODY], signal.SIGTERM)


def test_killing_ends_at_its_limit_with_those_who_are_left() -> None:
    assert kill_until_gone(list, limit=10) == []
    assert kill_until_gone(lambda: [NOBODY], limit=0.02) == [NOBODY]
