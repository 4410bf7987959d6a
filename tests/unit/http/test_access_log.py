"""The access log: what each atom writes, which formats are wrong, and that foreign text stays within its field."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eggcluster.http.access_log import Record, compile_format
from eggcluster.http.log_text import Timestamps, escaped, escaped_text
from eggcluster.model.access_log_format import ATOMS, DEFAULT_FORMAT, JSON
from eggcluster.options.option_type import BadValue, access_log_format

UTC = UTC
EAST = timezone(timedelta(hours=5, minutes=30))
TIME = 1795850997.25  # 2026-11-28 07:29:57.250 UTC
HEADERS = [
    (b"host", b"example.com"),
    (b"user-agent", b"curl/8"),
    (b"referer", b"https://example.com/"),
    (b"authorization", b"Basic YWxpY2U6c2VjcmV0"),  # alice:secret
]
RECORD = Record(
    time=TIME,
    duration=1.2345678,
    client=("192.0.2.1", 4711),
    method=b"GET",
    target=b"/a%20b?c=d?e",
    version="1.1",
    headers=HEADERS,
    status=200,
    response_headers=[(b"Content-Type", b"text/html")],
    body_bytes=1234,
    environ={"REMOTE_ADDR": "192.0.2.1", "wsgi.url_scheme": "http", "wsgi.multithread": True},
)
BARE = replace(RECORD, client=None, headers=[], response_headers=[], body_bytes=0, target=b"/", environ={})


def line(text: str, record: Record = RECORD) -> str:
    return compile_format(text, process_id=4711, zone=UTC)(record)


# -- atoms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("atom", "text", "of_bare"),
    [
        ("%(h)s", "192.0.2.1", "-"),
        ("%(l)s", "-", "-"),
        ("%(u)s", "alice", "-"),
        ("%(t)s", "[28/Nov/2026:07:29:57 +0000]", "[28/Nov/2026:07:29:57 +0000]"),
        ("%(r)s", "GET /a%20b?c=d?e HTTP/1.1", "GET / HTTP/1.1"),
        ("%(m)s", "GET", "GET"),
        ("%(U)s", "/a%20b", "/"),
        ("%(q)s", "c=d?e", ""),
        ("%(H)s", "HTTP/1.1", "HTTP/1.1"),
        ("%(s)s", "200", "200"),
        ("%(B)s", "1234", "0"),
        ("%(b)s", "1234", "-"),
        ("%(f)s", "https://example.com/", "-"),
        ("%(a)s", "curl/8", "-"),
        ("%(T)s", "1", "1"),
        ("%(M)s", "1234", "1234"),
        ("%(D)s", "1234567", "1234567"),
        ("%(L)s", "1.234568", "1.234568"),
        ("%(p)s", "<4711>", "<4711>"),
        ("%({Host}i)s", "example.com", "-"),
        ("%({x-none}i)s", "-", "-"),
        ("%({content-type}o)s", "text/html", "-"),
        ("%({REMOTE_ADDR}e)s", "192.0.2.1", "-"),
        ("%({remote_addr}e)s", "192.0.2.1", "-"),
        ("%({wsgi.multithread}e)s", "True", "-"),
        ("%(D)d|%(s)5s|%(m)-5s|%(a).4s|%(l)3s", "1234567|  200|GET  |curl|  -", "1234567|  200|GET  |-|  -"),
        ("100%% %(s)s%%", "100% 200%", "100% 200%"),
        ("no atom", "no atom", "no atom"),
    ],
)
def test_what_an_atom_writes(atom: str, text: str, of_bare: str) -> None:
    assert line(atom) == text
    assert line(atom, BARE) == of_bare


def test_the_default_is_the_combined_format() -> None:
    assert line(DEFAULT_FORMAT) == (
        '192.0.2.1 - alice [28/Nov/2026:07:29:57 +0000] "GET /a%20b?c=d?e HTTP/1.1" 200 1234 '
        '"https://example.com/" "curl/8"'
    )
    assert line(DEFAULT_FORMAT, BARE) == '- - - [28/Nov/2026:07:29:57 +0000] "GET / HTTP/1.1" 200 - "-" "-"'


def test_a_field_on_several_lines_shows_its_last() -> None:
    record = replace(RECORD, headers=[(b"a", b"1"), (b"a", b"2")], response_headers=[(b"a", b"3"), (b"A", b"4")])
    assert line("%({A}i)s %({A}o)s", record) == "2 4"


def test_a_process_id_with_a_percent_sign_is_no_conversion() -> None:
    assert compile_format("%(p)s %(s)s", process_id="%s")(RECORD) == "<%s> 200"


@pytest.mark.parametrize(
    ("authorization", "user"),
    [
        (b"basic  YWxpY2U6c2VjcmV0 ", "alice"),
        (b"Basic YWw6aWNlOnM=", "al"),
        (b"Basic ImEKIjpz", '\\"a\\n\\"'),
        (b"Basic OnNlY3JldA==", "-"),  # no name
        (b"Basic YWxpY2U=", "-"),  # no colon
        (b"Basic YWxpY2U6c2VjcmV", "-"),
        (b"Basic !!!!", "-"),
        (b"Basic \xff", "-"),
        (b"Bearer YWxpY2U6c2VjcmV0", "-"),
        (b"", "-"),
    ],
)
def test_the_user_is_the_name_of_basic_authentication(authorization: bytes, user: str) -> None:
    assert line("%(u)s", replace(RECORD, headers=[(b"authorization", authorization)])) == user


class Unused(Sequence[Any]):
    """Header fields that no atom should look at."""

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("looked at")

    def __len__(self) -> int:
        raise AssertionError("looked at")


def test_only_what_the_atoms_need_is_computed() -> None:
    record = replace(RECORD, headers=Unused(), response_headers=Unused())
    assert line("%(h)s %(r)s %(s)s", record) == "192.0.2.1 GET /a%20b?c=d?e HTTP/1.1 200"
    for text in ("%(a)s", "%(f)s", "%(u)s", "%({Host}i)s", "%({Host}o)s"):
        with pytest.raises(AssertionError, match="looked at"):
            line(text, record)


# -- wrong formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%(h)s %(x)s", 'no atom "x"; it has: h u r m U q H s B b f a T M D L t l p {Header}i {Header}o {VARIABLE}e'),
        ("%(hh)s", 'no atom "hh"'),
        ("%()s", 'no atom ""'),
        ("%({Host}x)s", 'no atom "{Host}x"'),
        ("%({}i)s", 'no atom "{}i"'),
        ("%(h)d", "%(h)d is not a number: write %(h)s"),
        ("%(l)d", "%(l)d is not a number: write %(l)s"),
        ("%(h)r", 'a % that begins no atom: "%(h)r"'),
        ("%(h)", "a % that begins no atom"),
        ("%(s)1.2.3s", "a % that begins no atom"),
        ("%s", "a % that begins no atom"),
        ("100%", 'a % that begins no atom: "%"'),
        ("%(h s", "a % that begins no atom"),
        ("", "the access log's format is empty"),
        (" ", "the access log's format is empty"),
    ],
)
def test_a_wrong_format_is_named_when_it_is_compiled_and_with_the_options(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        compile_format(text)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadValue, match=re.escape(message)):
        access_log_format().take(text)


def test_each_atom_that_a_format_may_have_is_written() -> None:
    for atom in ATOMS:
        assert compile_format(f"%({atom})s")(RECORD)


@pytest.mark.parametrize("text", [JSON, DEFAULT_FORMAT, "100%% %(s)d %({X-Id}i)-10s"])
def test_a_right_format_is_taken_as_it_is(text: str) -> None:
    assert access_log_format().take(text) == text


# -- foreign text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain text", "plain text"),
        ("Zürich 東京".encode(), "Zürich 東京"),
        (b'a"b\\c', 'a\\"b\\\\c'),
        (b"a\r\nb\tc", "a\\r\\nb\\tc"),
        (b"\0\x1b[31m\x7f", "\\x00\\x1b[31m\\x7f"),
        (b"\xff\xc3", "\\xff\\xc3"),
        ("\u202eevil\u2066".encode(), "\\u202eevil\\u2066"),
        ("\u2028\x85\ufeff\u200b".encode(), "\\u2028\\x85\\ufeff\\u200b"),
        ("\U000e0001".encode(), "\\U000e0001"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),  # a surrogate, which is not UTF-8
    ],
)
def test_foreign_text_is_escaped(value: bytes, text: str) -> None:
    assert escaped(value) == text


def test_a_lone_surrogate_in_text_is_shown_by_its_number() -> None:
    assert escaped_text("\ud800\udc80") == "\\ud800\\x80"
    assert line("%({X}e)s", replace(RECORD, environ={"X": "\ud800\n"})) == "\\ud800\\n"


def hostile(value: bytes) -> Record:
    headers = [(name, value) for name in (b"user-agent", b"referer", b"authorization", b"x-y")]
    return replace(
        RECORD,
        method=value,
        target=value,
        headers=headers,
        response_headers=headers,
        environ={"X": value.decode("latin-1")},
    )


@given(st.one_of(st.binary(max_size=30), st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass"))))
@example(b'" 200 "\\')
@example(b"%(h)s %s %%")
@example("\u202e\u2069\x7f\x9b".encode())
def test_a_line_is_one_printable_line_whatever_comes(value: bytes) -> None:
    record = hostile(value)
    text = line('"%(r)s" "%(m)s" "%(U)s" "%(q)s" "%(f)s" "%(a)s" "%(u)s" "%({X-Y}i)s" "%({X-Y}o)s" "%({X}e)s"', record)
    assert text.isprintable()
    assert len(re.findall(r'"(?:[^"\\]|\\.)*"', text)) == 10
    assert re.fullmatch(r'(?:"(?:[^"\\]|\\.)*"(?: |$)){10}', text)
    written = line(JSON, record)
    assert written.isascii()
    assert written.isprintable()
    assert json.loads(written)["method"] == value.decode("utf-8", "backslashreplace")


# -- JSON ----------------------------------------------------------------------------------------------------------


def test_a_json_line_has_these_members() -> None:
    write = compile_format(JSON, constants={"slot": 2, "worker_id": 4711, "name": 'sh"op'}, zone=EAST)
    assert json.loads(write(RECORD)) == {
        "time": "2026-11-28T12:59:57.250+05:30",
        "client": "192.0.2.1",
        "method": "GET",
        "path": "/a%20b",
        "query": "c=d?e",
        "status": 200,
        "bytes": 1234,
        "duration_ms": 1234.568,
        "user_agent": "curl/8",
        "slot": 2,
        "worker_id": 4711,
        "name": 'sh"op',
    }
    bare = json.loads(write(BARE))
    assert (bare["client"], bare["query"], bare["user_agent"]) == (None, "", None)


# -- times ---------------------------------------------------------------------------------------------------------


def test_the_times_follow_their_zone_and_the_clock_in_both_directions() -> None:
    east, utc = Timestamps(EAST), Timestamps(UTC)
    assert east.clf(TIME) == "[28/Nov/2026:12:59:57 +0530]"
    for time, clf, iso in [
        (TIME, "[28/Nov/2026:07:29:57 +0000]", "2026-11-28T07:29:57.250+00:00"),
        (TIME + 0.749, "[28/Nov/2026:07:29:57 +0000]", "2026-11-28T07:29:57.999+00:00"),
        (TIME + 0.75, "[28/Nov/2026:07:29:58 +0000]", "2026-11-28T07:29:58.000+00:00"),
        (TIME, "[28/Nov/2026:07:29:57 +0000]", "2026-11-28T07:29:57.250+00:00"),
        (0.0, "[01/Jan/1970:00:00:00 +0000]", "1970-01-01T00:00:00.000+00:00"),
    ]:
        assert utc.clf(time) == clf
        assert utc.iso(time) == iso


def test_the_zone_of_the_machine_is_the_default() -> None:
    assert re.fullmatch(r"\[\d\d/Nov/2026:\d\d:\d\d:\d\d [+-]\d{4}\]", Timestamps().clf(TIME))
    assert re.fullmatch(r"2026-11-2[789]T\d\d:\d\d:\d\d\.250[+-]\d\d:\d\d", Timestamps().iso(TIME))
    assert compile_format("%(t)s")(RECORD) == Timestamps().clf(TIME)
