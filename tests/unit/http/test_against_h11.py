"""Random and damaged requests, read by our rules and by h11: they agree, but for the decisions that are listed here."""

import random
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eggcluster.http.head import RequestHead
from eggcluster.http.rules import MALFORMED, Rejection, check_raw_head
from tests.unit.http.mutations import EXAMPLES, FIELDS, FRAMING_FIELDS, damage, heads, make_request
from tests.unit.http.reading import LIMITS, explained, read, read_by_h11

SEED = 20261128
ROUNDS = 6000


class Decision(NamedTuple):
    """A difference that is wanted: what it is, why, and how a request that shows it is recognized."""

    name: str
    reason: str
    shows: Callable[[bytes, Rejection | None], bool]


def broken(*rules: str) -> Callable[[bytes, Rejection | None], bool]:
    return lambda data, answer: answer is not None and answer.rule in rules


def in_request_line(pattern: bytes) -> Callable[[bytes, Rejection | None], bool]:
    search = re.compile(pattern).search
    return lambda data, answer: search(data.lstrip(b"\r\n").split(b"\n")[0]) is not None


STRICTER = (
    Decision(
        "line ends",
        "a reader that takes LF for a line's end sees other requests than one that does not",
        broken("no-bare-lf", "no-bare-cr"),
    ),
    Decision(
        "folds",
        "RFC 9112, 5.2: a server MUST refuse a fold or undo it; we refuse, h11 undoes",
        broken("no-obs-fold"),
    ),
    Decision(
        "control characters",
        "RFC 9110, 5.5 calls them invalid; h11 refuses only NUL and line breaks",
        broken("field-value"),
    ),
    Decision(
        "targets",
        "h11 takes any visible text for a target, RFC 9112, 3.2 knows four forms",
        broken("asterisk", "target-form", "target-host", "connect-target", "target-visible"),
    ),
    Decision(
        "CONNECT",
        "RFC 9110, 9.3.6: an origin server has nothing to connect to",
        broken("connect"),
    ),
    Decision(
        "methods",
        "RFC 9110, 9.1: a method that is not known is answered with 501; h11 takes any token",
        broken("method-known"),
    ),
    Decision(
        "Host",
        "h11 counts the Host fields and does not read them",
        broken("host-valid"),
    ),
    Decision(
        "two framings",
        "RFC 9112, 6.3: both fields together may be an attack; h11 lets chunks win",
        broken("one-framing"),
    ),
    Decision(
        "lengths",
        "RFC 9110, 8.6 allows to refuse equal lengths or to fold them; h11 folds",
        broken("length-once", "length-digits"),
    ),
    Decision(
        "large lengths",
        "a limit of ours; h11 leaves limits to the server",
        broken("length-range", "body-size"),
    ),
    Decision(
        "expectations",
        "RFC 9110, 10.1.1: 417 for what is not known; h11 does not look",
        broken("expect"),
    ),
    Decision(
        "versions",
        "RFC 9110, 15.6.6: 505 for what is not known; h11 leaves it to the server",
        broken("version"),
    ),
    Decision(
        "chunks in 1.0",
        "RFC 9112, 6.1: the framing is faulty; h11 reads chunks",
        broken("encoding-1.1"),
    ),
)
LAXER = (
    Decision(
        "more spaces",
        "llhttp skips them (RFC 9112, 3 allows it); which words are meant is not in doubt",
        in_request_line(rb"^[A-Z-]+  | {2,}HTTP/"),
    ),
    Decision(
        "RTSP",
        "llhttp reads it, too; it is answered in HTTP",
        in_request_line(rb" RTSP/1\.[01]\r$"),
    ),
    Decision(
        "empty lines",
        "RFC 9112, 2.2 asks for tolerance; llhttp also takes a lone CR or LF for an empty line",
        lambda data, answer: data[:1] in (b"\r", b"\n"),
    ),
)


# -- requests --------------------------------------------------------------------------------------------------


def samples(choice: list[bytes] = FIELDS) -> list[bytes]:
    rolls = random.Random(SEED)
    return [damage(make_request(rolls, choice), rolls) for _ in range(ROUNDS)]


# -- the comparison --------------------------------------------------------------------------------------------


def difference(data: bytes) -> str | None:
    """Return the decision by which the readers differ about `data`, None if they agree; AssertionError otherwise."""
    ours, theirs = read(data).verdict, read_by_h11(data)
    if isinstance(ours, RequestHead) and isinstance(theirs, h11.Request):
        assert facts_of(ours, data) == facts_of_h11(theirs, data), data
        return None
    if isinstance(ours, Rejection) and isinstance(theirs, h11.Request):
        return decided(STRICTER, data, explained(data))
    if isinstance(ours, RequestHead):
        return decided(LAXER, data, None)
    return None


def decided(decisions: tuple[Decision, ...], data: bytes, answer: Rejection | None) -> str:
    names = [decision.name for decision in decisions if decision.shows(data, answer)]
    assert names, f"a difference that is not listed: {data!r}, our answer: {answer}"
    return names[0]


def facts_of(head: RequestHead, data: bytes) -> tuple[Any, ...]:
    length = 0 if head.content_length is None else head.content_length
    headers = [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in head.headers]
    return (head.method, None if b"://" in data else (head.target, headers), head.version, head.chunked, length)


def facts_of_h11(request: h11.Request, data: bytes) -> tuple[Any, ...]:
    headers = [(bytes(name), bytes(value)) for name, value in request.headers]  # h11 lowers the coding's case
    found = dict(headers)
    return (
        request.method,
        None if b"://" in data else (request.target, headers),
        request.http_version.decode(),
        b"transfer-encoding" in found,
        int(found.get(b"content-length", b"0")),
    )


@given(heads)
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_head_of_the_grammar_with_a_few_edits_is_read_as_by_h11_or_by_decision(data: bytes) -> None:
    difference(data)


def test_ours_and_h11_differ_by_decision_only() -> None:
    seen = {difference(data) for data in samples()}
    assert seen - {None} == {decision.name for decision in (*STRICTER, *LAXER)}


@pytest.mark.parametrize("decision", [*STRICTER, *LAXER], ids=lambda decision: decision.name)
def test_a_decision_has_its_reason(decision: Decision) -> None:
    assert len(decision.reason) > 20


@given(st.binary(max_size=80), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_bytes_raise(noise: bytes, seed: int) -> None:
    rolls = random.Random(seed)
    data = make_request(rolls)
    cut = rolls.randrange(len(data) + 1)
    for each in (noise, data[:cut] + noise + data[cut:], data[:cut]):
        difference(each)
        answer = check_raw_head(each, LIMITS)
        assert answer is None or answer.status >= 400


# -- the parser and our rules ------------------------------------------------------------------------------------


def test_the_rules_for_bytes_refuse_what_the_parser_refuses() -> None:
    """`check_raw_head` finds a rule for each refusal, and none in what is accepted, but for what llhttp forgives."""
    for data in samples():
        found, raw = read(data).verdict, check_raw_head(data, LIMITS)
        if isinstance(found, RequestHead):
            assert raw is None or raw.rule in ("single-spaces", "protocol"), (data, raw)
        elif found is not None and (found != MALFORMED or b"\r\n\r\n" in data.lstrip(b"\r\n")):
            assert raw is not None, (data, found)


def test_the_parser_reads_the_body_that_the_rules_announce() -> None:
    """A difference here would be a hole: the engine and the parser would take the next request from different bytes."""
    bodies = 0
    for data in samples(FRAMING_FIELDS):
        reader = read(data)
        head, end = reader.verdict, data.find(b"\r\n\r\n") + 4
        if not isinstance(head, RequestHead) or data[:1] in b"\r\n" or end < len(data):
            continue
        body = b"0\r\n\r\n" if head.chunked else b"x" * min(head.content_length or 0, 100)
        assert reader.lets_live or not head.keep_alive, data
        if body and not reader.parser.should_upgrade():
            assert not reader.is_complete, data
            reader.parser.feed_data(body)
            bodies += 1
        assert reader.is_complete, data
    assert bodies > 200
