"""Where the same bytes may have another outcome: each row is a decision, with its reason."""

from collections.abc import Callable
from typing import NamedTuple

from tests.fuzz.request_streams import Sent

Response = tuple[int, bytes]  # status and body


class Outcome(NamedTuple):
    """What came of a stream: what the application has seen, and the responses."""

    requests: tuple[Sent, ...]
    messages: list[bytes] | None
    responses: tuple[Response, ...]


class WireDecision(NamedTuple):
    """A difference that is wanted; `covers` tells whether it is all the difference between two lists of responses."""

    name: str
    reason: str
    covers: Callable[[tuple[Response, ...], tuple[Response, ...]], bool]


def _are_other_refusals(one: tuple[Response, ...], other: tuple[Response, ...]) -> bool:
    if len(one) != len(other) or one[:-1] != other[:-1]:
        return False
    statuses = {one[-1][0], other[-1][0]}
    return 400 in statuses and min(statuses) >= 400


def _last_is(*statuses: int) -> Callable[[tuple[Response, ...], tuple[Response, ...]], bool]:
    """Return whether the two differ in a last response only: there is none, or one with one of the statuses."""

    def covers(one: tuple[Response, ...], other: tuple[Response, ...]) -> bool:
        common = min(len(one), len(other), max(len(one), len(other)) - 1)
        rest = one[common:] + other[common:]
        return one[:common] == other[:common] and all(status in statuses for status, _ in rest)

    return covers


DECISIONS = (
    WireDecision(
        "the rule of a refusal",
        "which rule a head has broken is found in the bytes of one piece: what the parser has read is not kept for "
        "that. A head that came in several pieces is answered with 400 and no more",
        _are_other_refusals,
    ),
    WireDecision(
        "the beginning of a head behind a request",
        "of a head that begins in one piece with the end of the request before, the bytes are counted from the next "
        "piece on, and a part of its method is not seen at all. So 431 comes a piece later, and an end in silence or "
        "by the client may come before it; what was read is at most one piece, 64 KiB",
        _last_is(408, 431),
    ),
)
LINES = WireDecision(
    "whole lines",
    "h11's parser looks at a line once it is complete, llhttp at each byte: in a line that never ends, llhttp alone "
    "sees what is wrong",
    _last_is(400, 408, 431, 501, 505),
)


def decided(one: Outcome, other: Outcome, *, same_parser: bool) -> bool:
    """Return whether a decision covers the difference. There is none for what the application sees."""
    if one.requests != other.requests or one.messages != other.messages:
        return False
    decisions = DECISIONS if same_parser else (*DECISIONS, LINES)
    return any(decision.covers(one.responses, other.responses) for decision in decisions)
