"""What the master keeps for the next agent: bounded, unread, and only of the right shape."""

from typing import Any

import pytest

from eggcluster.errors import FrameError
from eggcluster.master.agent_records import MAX_BYTES, AgentJournal


def test_a_new_value_takes_the_place_of_the_old_one() -> None:
    memory = AgentJournal()
    for value in (b"one", b"two"):
        memory.keep({"key": "poll", "value": value})
    memory.keep({"key": "other", "value": b""})
    assert memory.kept == {"poll": b"two", "other": b""}


def test_it_is_bounded_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    memory = AgentJournal()
    for number in range(1000):
        memory.keep({"key": f"key {number}", "value": bytes(1000)})
    assert sum(len(key) + len(value) for key, value in memory.kept.items()) <= MAX_BYTES
    assert len(memory.kept) > 60
    assert caplog.text.count("some are not kept") == 1
    memory.keep({"key": "key 0", "value": b"smaller"})
    memory.keep({"key": "key 2000", "value": bytes(900)})
    assert memory.kept["key 0"] == b"smaller"
    assert "key 2000" in memory.kept


@pytest.mark.parametrize(
    "details", [{}, {"key": "a"}, {"key": 1, "value": b""}, {"key": "a", "value": "text"}, {"key": None, "value": None}]
)
def test_another_shape_is_no_report(details: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        AgentJournal().keep(details)
