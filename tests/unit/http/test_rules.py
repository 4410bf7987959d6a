"""Every rule for a request: what is right and what is wrong, side by side."""

from itertools import product
from typing import Any

import pytest

from eggcluster.http.fields import METHODS
from eggcluster.http.head import Limits, RequestHead
from eggcluster.http.rules import (
    HEAD_RULES,
    MALFORMED,
    RAW_RULES,
    TRAILER_RULES,
    Rejection,
    Rule,
    check_by_table,
    check_head,
    check_raw_head,
    check_trailers,
)
from tests.unit.http.reading import LIMITS, explained, read, verdict

GET = b"GET / HTTP/1.1\r\n"
HOST = b"Host: a\r\n"
END = b"\r\n"


def request(fields: bytes = b"", line: bytes = GET, host: bytes = HOST) -> bytes:
    return line + host + fields + END


def post(fields: bytes, version: bytes = b"1.1") -> bytes:
    return b"POST / HTTP/" + version + b"\r\n" + HOST + fields + END


def line(text: bytes) -> bytes:
    return request(line=text + END)


# rule -> (what keeps it, what breaks it)
RAW_CASES: dict[str, tuple[list[bytes], list[bytes]]] = {
    "no-tls": ([request()], [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 40]),
    "no-http2": ([line(b"GET /PRI HTTP/1.1")], [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]),
    "no-leading-space": ([request(), b"\r\n" + request()], [b" " + request(), b"\t" + request()]),
    "no-bare-lf": (
        [request(b"X: y\r\n")],
        [
            request().replace(b"\r\n", b"\n"),
            request(b"X: y\n"),
            GET + HOST + b"\n",
            b"GET / HTTP/1.1\n" + HOST + END,
        ],
    ),
    "no-bare-cr": ([request(b"X: y\r\n")], [request(b"X: a\rb\r\n"), request(b"X: a\r\r\n")]),
    "method-token": ([line(b"M-SEARCH / HTTP/1.1")], [line(b"GE(T / HTTP/1.1"), line(b"G\xc9T / HTTP/1.1")]),
    "single-spaces": (
        [line(b"GET /%20 HTTP/1.1")],
        [line(b"GET / HTTP/1.1 "), line(b"GET /a b HTTP/1.1"), line(b"GET /  x HTTP/1.1")],
    ),
    "target-visible": (
        [line(b"GET /%00%7f%e9 HTTP/1.1")],
        [line(b"GET /" + bytes([code]) + b" HTTP/1.1") for code in (0, 1, 9, 0x7F, 0x80, 0xE9)],
    ),
    "protocol": (
        [line(b"GET / HTTP/1.1"), line(b"GET / HTTP/1.0")],
        [
            line(b"GET / " + each)
            for each in (b"http/1.1", b"HTTP/1", b"HTTP/1.10", b"HTTP/11.1", b"ICE/1.0", b"HTTQ/1.1")
        ],
    ),
    "no-space-first": ([request()], [GET + b" " + HOST + END, GET + b"\t" + HOST + END]),
    "no-obs-fold": ([request(b"X: y z\r\n")], [request(b"X: y\r\n z\r\n"), request(b"X:\r\n\tz\r\n")]),
    "no-space-colon": ([request(b"X:y\r\n")], [request(b"X : y\r\n"), request(b"X\t: y\r\n")]),
    "field-name": (
        [request(b"X!#$%&'*+-.^_`|~9: y\r\n")],
        [request(each + b"\r\n") for each in (b": y", b"X", b"X(: y", b"X\xe9: y", b"X\x00: y", b'"X": y')],
    ),
    "field-value": (
        [request(b"X: a\tb\r\n"), request(b"X: \xe9\xff\r\n"), request(b"X:\r\n"), request(b"X:  \t\r\n")],
        [request(b"X: a" + bytes([code]) + b"b\r\n") for code in (0, 1, 8, 0x0B, 0x0C, 0x1F, 0x7F)],
    ),
}
LONG = b"x" * 900
HEAD_CASES: dict[str, tuple[list[bytes], list[bytes]]] = {
    "version": (
        [line(b"GET / HTTP/1.0")],
        [line(b"GET / HTTP/" + each) for each in (b"0.9", b"1.2", b"2.0", b"3.0", b"9.9")] + [line(b"GET /")],
    ),
    "method-known": (
        [line(method + b" / HTTP/1.1") for method in sorted(METHODS - {b"CONNECT"})],
        [line(each + b" / HTTP/1.1") for each in (b"FOO", b"get", b"GETS", b"DESCRIBE")] + [line(b"SOURCE / ICE/1.0")],
    ),
    "target-length": ([line(b"GET /" + b"x" * 999 + b" HTTP/1.1")], [line(b"GET /" + b"x" * 1000 + b" HTTP/1.1")]),
    "field-count": ([request(b"X: y\r\n" * 19)], [request(b"X: y\r\n" * 20)]),
    "header-size": ([request((b"X: " + LONG + b"\r\n") * 2)], [request((b"X: " + LONG + b"\r\n") * 3)]),
    "connect-target": (
        [],
        [line(b"CONNECT " + each + b" HTTP/1.1") for each in (b"a", b"/", b"a:", b"u@a:1", b"http://a")],
    ),
    "connect": ([], [line(b"CONNECT a:443 HTTP/1.1"), line(b"CONNECT [::1]:443 HTTP/1.0")]),
    "asterisk": ([line(b"OPTIONS * HTTP/1.1")], [line(b"GET * HTTP/1.1"), line(b"POST * HTTP/1.0")]),
    "target-form": (
        [
            line(b"GET " + each + b" HTTP/1.1")
            for each in (b"/", b"//x", b"/?", b'/"<>\\^`{|}', b"http://a", b"HTTPS://a/b?c")
        ],
        [line(b"GET " + each + b" HTTP/1.1") for each in (b"/a#b", b"ftp://a/b", b"*x", b"http://a/b#c")],
    ),
    "target-host": (
        [line(b"GET http://a:80/ HTTP/1.1"), line(b"GET http://[::1]/ HTTP/1.1")],
        [line(b"GET http://" + each + b"/b HTTP/1.1") for each in (b"", b"u@a", b"u:p@a", b"a:b", b":80")],
    ),
    "host-present": (
        [request(), line(b"GET / HTTP/1.0")],
        [request(host=b""), request(host=b"", line=b"GET http://a/ HTTP/1.1\r\n")],
    ),
    "host-once": (
        [request()],
        [request(b"Host: a\r\n"), request(b"hOST: b\r\n"), request(HOST, b"GET / HTTP/1.0\r\n")],
    ),
    "host-valid": (
        [
            request(host=b"Host: " + each + END)
            for each in (b"", b"a", b"a.b:80", b"a:", b"1.2.3.4", b"[::1]:80", b"a_b", b"%C3%A9.x")
        ],
        [
            request(host=b"Host: " + each + END)
            for each in (b"a b", b"a/b", b"u@a", b"a, b", b"a:b", b":80", b"\xe9", b"[::1", b"a:8000000", b"a?", b"%zz")
        ],
    ),
    "encoding-1.1": (
        [post(b"Transfer-Encoding: chunked\r\n"), post(b"Content-Length: 3\r\n", b"1.0")],
        [post(b"Transfer-Encoding: chunked\r\n", b"1.0")],
    ),
    "one-framing": (
        [post(b"Transfer-Encoding: chunked\r\n"), post(b"Content-Length: 3\r\n")],
        [
            post(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
            post(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
            post(b"Content-Length: 0\r\ntransfer-encoding: CHUNKED\r\n"),
        ],
    ),
    "length-once": (
        [post(b"Content-Length: 3\r\n")],
        [post(b"Content-Length: 3\r\nContent-Length: 3\r\n"), post(b"Content-Length: 3\r\nContent-Length: 4\r\n")],
    ),
    "length-digits": (
        [post(b"Content-Length: " + each + END) for each in (b"0", b"003", b" \t3", b"3 ", b"999999")],
        [
            post(b"Content-Length: " + each + END)
            for each in (b"", b"5, 5", b"5,5", b"+5", b"-5", b"0x5", b"5 5", b"5_0", b"5.0", b"x")
        ],
    ),
    "length-range": (
        [post(b"Content-Length: " + b"0" * 30 + b"3\r\n")],
        [post(b"Content-Length: " + each + END) for each in (b"1" + b"0" * 18, b"18446744073709551616", b"9" * 500)],
    ),
    "chunked-last": (
        [post(b"Transfer-Encoding: " + each + END) for each in (b"chunked", b"Chunked", b" CHUNKED")],
        [
            post(b"Transfer-Encoding: " + each + END)
            for each in (b"", b"gzip", b"identity", b"chunked, gzip", b"xchunked", b"chunkedx", b"chunked;q=1")
        ]
        + [post(b"Transfer-Encoding: chunked, chunked\r\n"), post(b"Transfer-Encoding: chunked\r\n" * 2)]
        + [post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")],
    ),
    "coding-known": (
        [post(b"Transfer-Encoding: chunked\r\n")],
        [
            post(b"Transfer-Encoding: gzip, chunked\r\n"),
            post(b"Transfer-Encoding: ,chunked\r\n"),
            post(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        ],
    ),
    "body-size": ([post(b"Content-Length: 1000000\r\n")], [post(b"Content-Length: 1000001\r\n")]),
    "expect": (
        [post(b"Expect: " + each + END) for each in (b"100-continue", b"100-Continue", b"")]
        + [post(b"Expect: other\r\n", b"1.0")],
        [post(b"Expect: other\r\n"), post(b"Expect: 100-continue, other\r\n"), post(b"Expect: 100-continue;x\r\n")],
    ),
}
CASES = RAW_CASES | HEAD_CASES
TRAILERS: dict[str, tuple[list[bytes], list[bytes]]] = {
    "trailer-count": ([b"x"] * 20, [b"x"] * 21),
    "trailer-size": ([b"x" * 1996], [b"x" * 1997]),
    "trailer-allowed": ([b"x-checksum"], [b"x-checksum", b"host"]),
}
CHUNKED = post(b"Transfer-Encoding: chunked\r\n")


def test_every_rule_has_its_cases_and_its_paragraph() -> None:
    rules: list[Rule[Any]] = [*RAW_RULES, *HEAD_RULES, *TRAILER_RULES]
    assert [rule.name for rule in rules] == [*RAW_CASES, *HEAD_CASES, *TRAILERS]
    assert all(rule.source.split()[0] in ("9110", "9112", "9113", "6585") for rule in rules)
    assert all(rule.status in (400, 413, 414, 417, 431, 501, 505) and len(rule.reason) < 80 for rule in rules)


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, (right, _) in CASES.items() for data in right])
def test_what_keeps_a_rule_is_accepted(name: str, data: bytes) -> None:
    assert isinstance(verdict(data), RequestHead)
    assert check_raw_head(data, LIMITS) is None


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, (_, wrong) in CASES.items() for data in wrong])
def test_what_breaks_a_rule_is_refused_by_its_name(name: str, data: bytes) -> None:
    answer = explained(data)
    assert answer is not None
    if name != "version":  # of HTTP/0.9's request line two rules may be said to be broken
        assert answer.rule == name
    rules: list[Rule[Any]] = [*RAW_RULES, *HEAD_RULES]
    assert answer.status == next(rule.status for rule in rules if rule.name == answer.rule)


# What the parser's strictness takes off the head's rules. A version of httptools that lets one of these through would
# fail here before it serves a request.
@pytest.mark.parametrize(
    "data", [data for name, (_, wrong) in RAW_CASES.items() for data in wrong if name != "single-spaces"]
)
def test_the_parser_itself_refuses_what_only_the_bytes_show(data: bytes) -> None:
    assert verdict(data) == MALFORMED


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (line(b"GET  / HTTP/1.1"), "a second space is white space, too (RFC 9112, 3: a reader MAY be lenient)"),
        (line(b"GET /  HTTP/1.1"), "as before"),
        (line(b"GET / RTSP/1.0"), "no proxy forwards it, and it is answered as HTTP/1.0, once"),
        (b"\r\n\r\n\r\n" + request(), "RFC 9112, 2.2: at least one empty line is skipped"),
        (b"\n\r" + request(), "as before"),
    ],
)
def test_what_the_parser_forgives(data: bytes, text: str) -> None:
    assert isinstance(verdict(data), RequestHead)


# -- what the rules find -------------------------------------------------------------------------------------


def head_of(data: bytes, limits: Limits = LIMITS) -> RequestHead:
    found = verdict(data, limits)
    assert isinstance(found, RequestHead)
    return found


@pytest.mark.parametrize(
    ("data", "length", "chunked", "has_body"),
    [
        (request(), None, False, False),
        (post(b"Content-Length: 0\r\n"), 0, False, False),
        (post(b"Content-Length: 007 \r\n"), 7, False, True),
        (post(b"Transfer-Encoding: Chunked\r\n"), None, True, True),
    ],
)
def test_the_framing(data: bytes, length: int | None, chunked: bool, has_body: bool) -> None:
    head = head_of(data)
    assert (head.content_length, head.chunked, head.has_body) == (length, chunked, has_body)


@pytest.mark.parametrize(
    ("version", "fields", "keeps"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: x, Close\r\n", False),
        (b"1.1", b"Connection: keep-alive\r\nConnection: close\r\n", False),
        (b"1.1", b"Connection: closed\r\n", True),
        (b"1.1", b"Proxy-Connection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: close, keep-alive\r\n", False),
        (b"1.0", b"Proxy-Connection: keep-alive\r\n", True),
        (b"1.1", b"Connection: keep-alive\r\nProxy-Connection: close\r\n", False),
    ],
)
def test_keep_alive(version: bytes, fields: bytes, keeps: bool) -> None:
    reader = read(post(fields, version))
    assert isinstance(reader.verdict, RequestHead)
    assert reader.verdict.keep_alive is keeps
    assert reader.lets_live or not keeps  # a connection kept open after the parser's end would refuse what follows


@pytest.mark.parametrize(
    ("data", "expects"),
    [
        (post(b"Content-Length: 3\r\nExpect: 100-continue\r\n"), True),
        (post(b"Transfer-Encoding: chunked\r\nExpect: 100-CONTINUE\r\n"), True),
        (post(b"Content-Length: 0\r\nExpect: 100-continue\r\n"), False),
        (request(b"Expect: 100-continue\r\n"), False),
        (post(b"Content-Length: 3\r\nExpect: 100-continue\r\n", b"1.0"), False),
    ],
)
def test_expects_continue(data: bytes, expects: bool) -> None:
    assert head_of(data).expects_continue is expects


SWITCH = b"Connection: keep-alive, Upgrade\r\n"


@pytest.mark.parametrize(
    ("data", "upgrade"),
    [
        (request(SWITCH + b"Upgrade: WebSocket\r\n"), "websocket"),
        (request(SWITCH + b"Upgrade: h2c, websocket\r\nContent-Length: 0\r\n"), "websocket"),
        (request(SWITCH + b"Upgrade: h2c\r\n"), None),
        (request(b"Upgrade: websocket\r\n"), None),
        (request(b"Proxy-Connection: upgrade\r\nUpgrade: websocket\r\n"), None),
        (request(SWITCH + b"Upgrade: websocket\r\nContent-Length: 3\r\n"), None),
        (request(SWITCH + b"Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n"), None),
        (request(SWITCH + b"Upgrade: websocket\r\n", b"GET / HTTP/1.0\r\n"), None),
        (post(SWITCH + b"Upgrade: websocket\r\n"), None),
    ],
)
def test_upgrade(data: bytes, upgrade: str | None) -> None:
    assert head_of(data).upgrade == upgrade


@pytest.mark.parametrize(
    ("fields", "body"),
    [(b"Content-Length: 3\r\n", b"abc"), (b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n")],
)
def test_the_body_of_a_request_whose_upgrade_is_ignored(fields: bytes, body: bytes) -> None:
    reader = read(post(SWITCH + b"Upgrade: h2c\r\n" + fields) + body)
    assert reader.is_complete
    assert reader.body == b""  # the parser leaves the body to another protocol
    assert isinstance(reader.verdict, RequestHead)
    again = read(reader.verdict.body_prelude() + body, LIMITS)
    assert again.is_complete
    assert again.body == b"abc"


@pytest.mark.parametrize(
    ("method", "target", "path"),
    [
        (b"GET", b"http://b:8080/c?d", b"/c?d"),
        (b"GET", b"http://b:8080", b"/"),
        (b"GET", b"HTTP://b:8080?d", b"/?d"),
        (b"OPTIONS", b"http://b:8080", b"*"),
        (b"OPTIONS", b"http://b:8080/", b"/"),
    ],
)
def test_an_absolute_target_replaces_the_host(method: bytes, target: bytes, path: bytes) -> None:
    head = head_of(method + b" " + target + b" HTTP/1.1\r\nX: y\r\nHost: a\r\n\r\n")
    assert (head.target, head.headers) == (path, [(b"host", b"b:8080"), (b"x", b"y")])


def test_a_head_tells_what_it_is() -> None:
    assert repr(head_of(line(b"GET /a?b HTTP/1.0"))) == "<RequestHead GET /a?b HTTP/1.0>"


# -- the short cut and the table -------------------------------------------------------------------------------


def facts(checked: RequestHead | Rejection) -> object:
    return checked if isinstance(checked, Rejection) else [getattr(checked, name) for name in RequestHead.__slots__]


@pytest.mark.parametrize("limits", [LIMITS, Limits()], ids=["limits", "no body limit"])
def test_the_short_cut_finds_what_the_table_finds(limits: Limits) -> None:
    hosts = [[], [b"a"], [b""], [b"a b"], [b"a", b"a"]]
    lengths = [[], [b"0"], [b"7"], [b"1000001"], [b"x"], [b""], [b"1" * 19], [b"1" * 5000], [b"1", b"1"], [b"7 "]]
    connections = [[], [b"keep-alive"], [b"Keep-Alive"], [b"close"], [b"CLOSE"], [b"upgrade"], [b"close", b"x"]]
    lines = [
        (b"GET", b"/"),
        (b"POST", b"*"),
        (b"FOO", b"/"),
        (b"GET", b"/a#b"),
        (b"CONNECT", b"/"),
        (b"GET", b"http://b"),
    ]
    for (method, target), version, *values in product(lines, ("1.1", "1.0", "2.0"), hosts, lengths, connections):
        names = (b"host", b"content-length", b"connection")
        headers = [(name, value) for name, group in zip(names, values, strict=True) for value in group]
        args = (method, target, version, headers, limits)
        assert facts(check_head(*args)) == facts(check_by_table(*args)), args


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        (Limits(), None),
        (Limits(max_headers=1), "field-count"),
        (Limits(max_target_bytes=3), "target-length"),
        (Limits(max_header_bytes=20), "header-size"),
        (Limits(max_header_bytes=21, max_headers=2, max_target_bytes=4), None),
    ],
)
def test_the_limits(limits: Limits, rule: str | None) -> None:
    args = (b"GET", b"/abc", "1.1", [(b"host", b"a"), (b"x", b"ycd")], limits)
    for check in (check_head, check_by_table):
        found = check(*args)
        assert (found.rule if isinstance(found, Rejection) else None) == rule


def test_without_a_limit_a_body_may_have_any_length_that_fits() -> None:
    answer = explained(post(b"Content-Length: 1" + b"0" * 18 + END), Limits())
    assert answer is not None
    assert (answer.rule, answer.status) == ("length-range", 413)
    assert head_of(post(b"Content-Length: " + b"9" * 18 + END), Limits()).content_length == 10**18 - 1


# -- after the head --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "right", "wrong"), [(name, *pair) for name, pair in TRAILERS.items()])
def test_trailers(name: str, right: list[bytes], wrong: list[bytes]) -> None:
    value = b"" if name == "trailer-size" else b"y"
    assert check_trailers([(field, value) for field in right], LIMITS) is None
    found = check_trailers([(field, value) for field in wrong], LIMITS)
    assert found is not None
    assert found.rule == name


@pytest.mark.parametrize(
    "body",
    [
        b"3\r\nabc\r\n0\r\n\r\n",
        b'3;a=b;c="d"\r\nabc\r\n0\r\n\r\n',
        b"0003\r\nabc\r\n0\r\nX: y\r\n\r\n",
        b"3\r\nabc\r\n000\r\n\r\n",
    ],
)
def test_the_parser_accepts_chunks(body: bytes) -> None:
    reader = read(CHUNKED + body)
    assert (reader.body, reader.is_complete) == (b"abc", True)


@pytest.mark.parametrize(
    "body",
    [
        b"10000000000000000\r\nabc\r\n0\r\n\r\n",  # 2**64: RFC 9112, 7.1
        b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3\rabc\r\n0\r\n\r\n",
        b"3;a\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\n\r\n",
        b"3\r\nabc\r\n0\r\nX: y\n\r\n",
        b"3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n",
        b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
        b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_the_parser_refuses_broken_chunks(body: bytes) -> None:
    assert not read(CHUNKED + body).is_complete
