"""Key sources: where a request has its key, and what a response gives its client."""

import dataclasses

import pytest

from eggcluster.model.steering.key_source import MAX_KEY_BYTES, KeySource, key_sources, key_ways, parse_key_source
from eggcluster.options import parse_options
from eggcluster.options.checks.listening import check_sticky_by


def source(way: str) -> KeySource:
    found = parse_key_source(way)
    assert found is not None
    return found


def test_which_response_fields_may_give_a_key() -> None:
    assert source("header:X-Key").is_given_by(b"x-key")
    assert source("cookie:sid").is_given_by(b"set-cookie")
    for way in ("query:set-cookie", "header:x", "cookie:sid", "cookie"):
        assert not source(way).is_given_by(b"x-key")
    assert not source("cookie").is_given_by(b"set-cookie")  # the cluster's own is no key to learn


@pytest.mark.parametrize(
    "way", ["", "address", "cookie:", "cookie: a", "header:a b", "query:a&b", "body:a", "header", "Cookie"]
)
def test_what_is_no_source(way: str) -> None:
    assert parse_key_source(way) is None


def test_the_sources_keep_their_order_and_an_address_is_none() -> None:
    ways = ("query:sid", "address", "cookie", "header:MCP-Session-Id")
    assert key_ways(ways) == ["query:sid", "cookie", "header:MCP-Session-Id"]
    assert [each.kind for each in key_sources(ways)] == ["query", "cookie", "header"]
    assert key_sources(ways)[2].name == b"mcp-session-id"


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (b"/", None),
        (b"/?sid=", None),
        (b"/?sid", None),
        (b"/?xsid=1", None),
        (b"/?a=sid&sid=1", b"1"),
        (b"/?sid=1&sid=2", b"1"),
        (b"/?sid=a%20b+c", b"a b c"),
        (b"/sid=3", None),
    ],
)
def test_a_query_parameter(target: bytes, key: bytes | None) -> None:
    assert source("query:sid").key_of(target, []) == key


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"s=1", b"1"),
        (b"as=0; s=1", b"1"),
        (b's="1"', b"1"),
        (b"s=a=b", b"a=b"),
        (b"s=", None),
        (b"S=1", None),
        (b"s", None),
    ],
)
def test_a_cookie(value: bytes, key: bytes | None) -> None:
    assert source("cookie:s").key_of(b"/", [(b"x", b"s=0"), (b"cookie", value)]) == key


def test_a_header() -> None:
    assert source("header:X-Id").key_of(b"/", [(b"x-i", b"0"), (b"x-id", b"1"), (b"x-id", b"2")]) == b"1"
    assert source("header:X-Id").key_of(b"/", []) is None


def test_a_key_that_is_too_long_is_none() -> None:
    assert source("header:a").key_of(b"/", [(b"a", b"k" * MAX_KEY_BYTES)]) is not None
    assert source("header:a").key_of(b"/", [(b"a", b"k" * (MAX_KEY_BYTES + 1))]) is None


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([], None),
        ([(b"Set-Cookie", b"s=1; Path=/")], b"1"),
        ([(b"set-cookie", b"t=1"), (b"set-cookie", b"s=2")], b"2"),
        ([(b"set-cookie", b"s=1"), (b"set-cookie", b"s=2")], b"2"),
        ([(b"set-cookie", b"s=1; Max-Age=0")], None),
        ([(b"set-cookie", b"s=; expires=Thu, 01 Jan 1970 00:00:00 GMT")], None),
    ],
)
def test_what_a_response_gives(headers: list[tuple[bytes, bytes]], key: bytes | None) -> None:
    assert source("cookie:s").learned_from(headers) == key


def test_a_response_gives_a_header_in_any_case_and_never_a_query() -> None:
    assert source("header:mcp-session-id").learned_from([(b"Mcp-Session-Id", b"1")]) == b"1"
    assert source("query:sid").learned_from([(b"sid", b"1")]) is None


def test_interpreters_cannot_follow_keys() -> None:
    options = dataclasses.replace(parse_options("eggcluster:Agent", environ={}), start_mode="interpreter")
    assert not list(check_sticky_by(dataclasses.replace(options, sticky_by=("address",)), str))
    (line,) = check_sticky_by(dataclasses.replace(options, sticky_by=("address", "query:sid")), str)
    assert line.startswith("sticky_by: with start_mode interpreter query:sid cannot be followed; use address")
