"""The fuzz of the wire, in short: the same streams each time. `make fuzz` runs it for minutes, with others."""

import pytest

from tests.fuzz.fuzz_wire import fuzz
from tests.fuzz.wire_decisions import DECISIONS, LINES

COUNT = 60  # streams: two seconds


def test_streams_of_requests_are_served_alike_however_they_are_cut() -> None:
    assert fuzz(0, seed=20261128, count=COUNT) == COUNT


@pytest.mark.parametrize("decision", [*DECISIONS, LINES], ids=lambda decision: decision.name)
def test_a_decision_of_the_wire_has_its_reason(decision: object) -> None:
    assert len(getattr(decision, "reason", "")) > 20
