"""Trusted proxies: which fields count, whose address the client's is, and what a client cannot make up."""

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eggcluster.http.forwarded import DEFAULT, Forwarded, Header, TrustedProxies
from eggcluster.http.forwarded_field import MAX_BYTES, MAX_ELEMENTS, MAX_PARAMETERS, elements
from eggcluster.http.ip_addresses import Address, parse_node

PROXY: Address = ("127.0.0.1", 5000)
CLIENT: Address = ("192.0.2.1", 0)
LOOPBACK = TrustedProxies.parse(DEFAULT)
ALL = TrustedProxies.parse("*")
RFC_7239 = TrustedProxies.parse(DEFAULT, only_forwarded=True, host=True)
FULL = TrustedProxies.parse(DEFAULT, host=True, prefix=True)


def x_for(*values: str) -> list[Header]:
    return [(b"x-forwarded-for", value.encode("latin-1")) for value in values]


def forwarded(*values: str) -> list[Header]:
    return [(b"forwarded", value.encode("latin-1")) for value in values]


def client(headers: list[Header], proxies: TrustedProxies = LOOPBACK, peer: Address | None = PROXY) -> Address | None:
    return proxies.resolve(peer, "http", headers).client


def scheme(headers: list[Header], of: str = "http") -> str:
    return LOOPBACK.resolve(PROXY, of, headers).scheme


# -- the option ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "trusted", "others"),
    [
        (DEFAULT, ["127.0.0.1", "::1", "::ffff:127.0.0.1", None], ["127.0.0.2", "::2", "10.0.0.1"]),
        ("127.0.0.1", ["127.0.0.1", "::ffff:7f00:1"], [None, "::1"]),
        (" 10.0.0.0/8 ,, 2001:DB8::/32,", ["10.255.0.1", "::ffff:10.1.1.1", "2001:db8:0::1"], ["11.0.0.1", None]),
        ("::ffff:10.0.0.0/104", ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.1"]),
        ("::ffff:127.0.0.1", ["127.0.0.1"], ["127.0.0.2"]),
        ("10.0.0.0/255.0.0.0", ["10.1.2.3"], ["11.0.0.1"]),
        ("fe80::/10", ["fe80::1%eth0"], ["fec0::1"]),
        ("0.0.0.0/0", ["1.2.3.4"], ["::1", None]),
        ("unix", [None], ["127.0.0.1", "unix"]),
        ("*", [None, "1.2.3.4", "::1", "no address"], []),
        ("", [], [None, "127.0.0.1", "", "no address"]),
    ],
)
def test_the_peers_that_an_option_trusts(text: str, trusted: list[str | None], others: list[str | None]) -> None:
    proxies = TrustedProxies.parse(text)
    for host in (*trusted, *trusted):  # the second time from the cache
        assert proxies.trusts(host), host
    for host in (*others, *others):
        assert not proxies.trusts(host), host


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("localhost", '"localhost" is not a proxy'),
        ("::1, 10.0.0.0/33", '"10.0.0.0/33" is not a proxy'),
        ("010.0.0.1", '"010.0.0.1" is not a proxy'),
        ("127.0.0.1:80", '"127.0.0.1:80" is not a proxy'),
        ("10.0.0.1/8", '"10.0.0.1/8" is not a network, because it has host bits set: write 10.0.0.0/8'),
        ("fe80::1%eth0", '"fe80::1%eth0" has a zone, which is not compared: write "fe80::1"'),
        ("10.0.0.1\n10.0.0.2", r'"10.0.0.1\n10.0.0.2" is not a proxy'),
        ("UNIX", '"UNIX" is not a proxy'),
    ],
)
def test_a_bad_option_is_named_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"is not a|has a zone") as caught:
        TrustedProxies.parse(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


# -- X-Forwarded-For -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("192.0.2.1", ("192.0.2.1", 0)),
        ("192.0.2.1:4711", ("192.0.2.1", 4711)),
        ("2001:DB8:0::1", ("2001:db8::1", 0)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
        ("::ffff:192.0.2.1", ("192.0.2.1", 0)),
        ("[::ffff:192.0.2.1]:80", ("192.0.2.1", 80)),
        ("192.0.2.1:_hidden", ("192.0.2.1", 0)),
        ("", None),
        ("unknown", None),
        ("_hidden", None),
        ("example.com", None),
        ("192.0.2", None),
        ("192.0.2.256", None),
        ("192.0.02.1", None),
        ("192.0.2.1:", None),
        ("192.0.2.1:65536", None),
        ("192.0.2.1:80:80", None),
        ("192.0.2.1 ", None),
        ("[192.0.2.1]", None),
        ("[::1", None),
        ("[::1]x", None),
        ("fe80::1%eth0", None),
        ("[fe80::1%eth0]", None),
        ("192.0.2.1\n", None),
        ("192.0.2.1:_" + "x" * 100, None),
        ("\u0661.2.3.4", None),
    ],
)
def test_the_entries_that_are_addresses(entry: str, address: Address | None) -> None:
    assert parse_node(entry.encode()) == address


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], PROXY),
        (x_for("192.0.2.1"), CLIENT),
        (x_for("198.51.100.9, 192.0.2.1"), CLIENT),  # what is left of the client is its own invention
        (x_for("198.51.100.9", "192.0.2.1"), CLIENT),
        (x_for("192.0.2.1, 127.0.0.1, ::1"), CLIENT),
        (x_for("192.0.2.1", " ::1\t"), CLIENT),
        (x_for(",192.0.2.1 , ,"), CLIENT),
        (x_for("192.0.2.1:99"), ("192.0.2.1", 99)),
        (x_for("::1, 127.0.0.1"), ("::1", 0)),  # all are trusted: the leftmost
        (x_for("192.0.2.1, unknown"), PROXY),
        (x_for("192.0.2.1, garbage, ::1"), ("::1", 0)),
        (x_for("192.0.2.1, garbage, 198.51.100.9"), ("198.51.100.9", 0)),
        (x_for(""), PROXY),
        (x_for("\xff\x00"), PROXY),
        ([(b"x-real-ip", b"192.0.2.1")], PROXY),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_not_trusted(headers: list[Header], expected: Address) -> None:
    assert client(headers) == expected


def test_without_a_trusted_peer_no_field_counts() -> None:
    headers = [*x_for("192.0.2.1"), (b"x-forwarded-proto", b"https"), *forwarded("for=192.0.2.1;proto=https")]
    stranger = ("203.0.113.7", 1)
    assert LOOPBACK.resolve(stranger, "http", headers) == Forwarded(stranger, "http")
    assert TrustedProxies.parse("").resolve(None, "http", headers) == Forwarded(None, "http")


def test_a_unix_socket_has_a_client_once_a_proxy_names_it() -> None:
    assert client(x_for("192.0.2.1"), peer=None) == CLIENT
    assert client(x_for("unknown"), peer=None) is None
    assert client(x_for("192.0.2.1"), TrustedProxies.parse("127.0.0.1"), peer=None) is None
    assert client(x_for("192.0.2.1"), ALL, peer=None) == CLIENT


def test_where_every_proxy_is_trusted_the_leftmost_entry_is_the_client() -> None:
    assert client(x_for("192.0.2.1, 198.51.100.9, 203.0.113.7"), ALL) == CLIENT


def test_a_long_list_is_read_to_a_bound() -> None:
    assert client(x_for("192.0.2.1" + ", ::1" * (MAX_ELEMENTS - 1))) == CLIENT
    assert client(x_for("192.0.2.1" + ", ::1" * MAX_ELEMENTS)) == ("::1", 0)
    element = ", for=127.0.0.1"
    assert client(forwarded("for=192.0.2.1" + element * (MAX_ELEMENTS - 1))) == CLIENT
    assert client(forwarded("for=192.0.2.1" + element * MAX_ELEMENTS)) == ("127.0.0.1", 0)


# -- X-Forwarded-Proto, -Host, -Port, -Prefix --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proto", "of_http", "of_websocket"),
    [
        ("https", "https", "wss"),
        ("http", "http", "ws"),
        ("WSS", "https", "wss"),
        ("ws", "http", "ws"),
        (" https ", "https", "wss"),
        ("http, https", "https", "wss"),
        ("https, http", "http", "ws"),  # the nearest proxy wrote the last one
        ("https,", "https", "wss"),
        ("", "http", "ws"),
        ("ftp", "http", "ws"),
        ("https\n", "http", "ws"),
        ("https, ftp", "http", "ws"),
    ],
)
def test_the_scheme_stays_one_of_its_kind(proto: str, of_http: str, of_websocket: str) -> None:
    headers = [(b"x-forwarded-proto", proto.encode())]
    assert scheme(headers) == of_http
    assert scheme(headers, "ws") == of_websocket
    element = forwarded(f'proto="{proto.strip(" ")}"')
    assert scheme(element) == (of_http if "," not in proto else "http")


def test_a_proxy_that_ends_an_outer_tls_may_say_http() -> None:
    assert scheme([(b"x-forwarded-proto", b"http")], "https") == "http"
    assert scheme([(b"x-forwarded-proto", b"gopher")], "https") == "https"


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        (b"example.com", b"", b"example.com"),
        (b"example.com:8443", b"", b"example.com:8443"),
        (b"example.com", b"8443", b"example.com:8443"),
        (b"example.com", b"443", b"example.com"),  # https has it anyway
        (b"example.com", b"80", b"example.com:80"),
        (b"example.com:1", b"2", b"example.com:1"),
        (b"[::1]", b"8443", b"[::1]:8443"),
        (b"[::1]:1", b"8443", b"[::1]:1"),
        (b"evil.example, example.com", b"1, 8443", b"example.com:8443"),
        (b"example.com", b"0", b"example.com"),
        (b"example.com", b"65536", b"example.com"),
        (b"example.com", b"-1", b"example.com"),
        (b"example.com", b"9" * 5000, b"example.com"),
        (b"", b"8443", None),
        (b"user@example.com", b"", None),
        (b"example.com/path", b"", None),
        (b"exa mple.com", b"", None),
        (b"example.com\r", b"", None),
        (b"x" * 300, b"", None),
    ],
)
def test_the_host_and_its_port(host: bytes, port: bytes, expected: bytes | None) -> None:
    headers = [(b"x-forwarded-host", host), (b"x-forwarded-port", port), (b"x-forwarded-proto", b"https")]
    assert FULL.resolve(PROXY, "http", headers).host == expected
    assert LOOPBACK.resolve(PROXY, "http", headers) == Forwarded(PROXY, "https")
    assert FULL.resolve(("203.0.113.7", 1), "http", headers).host is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"/api", "/api"),
        (b"/api/v1/", "/api/v1"),
        (b"/evil, /api", "/api"),
        (b"/.well-known", "/.well-known"),
        (b"", None),
        (b"/", None),
        (b"api", None),
        (b"//evil.example", None),
        (b"/a//b", None),
        (b"/a/../b", None),
        (b"/a/..", None),
        (b"/%2F/evil", None),
        (b"/a\\b", None),
        (b"/a?b", None),
        (b"/a\n", None),
        (b"/\xc3\xa4", None),
    ],
)
def test_the_prefix(value: bytes, expected: str | None) -> None:
    headers = [(b"x-forwarded-prefix", value)]
    assert FULL.resolve(PROXY, "http", headers).prefix == expected
    assert LOOPBACK.resolve(PROXY, "http", headers).prefix is None


# -- Forwarded (RFC 7239) ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "element"),
    [
        ("for=192.0.2.1", {b"for": b"192.0.2.1"}),
        ("For=a;PROTO=http;by=b", {b"for": b"a", b"proto": b"http", b"by": b"b"}),
        ('for="[2001:db8::1]:80"', {b"for": b"[2001:db8::1]:80"}),
        ("for=[::1]:80", {b"for": b"[::1]:80"}),  # no token, and common
        ('for="a\\"b\\\\,;c"', {b"for": b'a"b\\,;c'}),
        ("for=a ; proto=http;", {b"for": b"a", b"proto": b"http"}),
        (r'x="\\\"\a\\"', {b"x": b'\\"a\\'}),
        (";for=a;;by=b;", {b"for": b"a", b"by": b"b"}),
        ('x="=";for=a', {b"x": b"=", b"for": b"a"}),
        ('host=""', {b"host": b""}),
        ("", None),
        (";", None),
        ("for", None),
        ("for=", None),
        ("for =a", None),
        ('for="a', None),
        ('for="a"b', None),
        ('for=a"', None),
        ("for=a for=b", None),
        ("for=a;for=b", None),
        ("for=a;;x", None),
        ("=a", None),
        ('="a"', None),
        ('for=\\"a"', None),
        ('for="a\\"', None),
        ("for=\xff", None),
    ],
)
def test_the_parameters_of_an_element(text: str, element: dict[bytes, bytes] | None) -> None:
    assert list(elements(text.encode("latin-1"))) == ([] if element is None else [element])


def test_elements_are_read_from_the_right_and_end_at_a_malformed_one() -> None:
    value = b'for=a, garbage, for=b;host="x, y=z;" , , for=c,'
    assert list(elements(value)) == [{b"for": b"c"}, {b"for": b"b", b"host": b"x, y=z;"}]
    assert list(elements(b"")) == list(elements(b" , ,")) == list(elements(b"garbage")) == []


def test_a_hostile_field_is_read_to_bounds() -> None:
    last = b"for=b" + b" " * 100
    assert list(elements(b"x=y," + last)) == [{b"for": b"b"}, {b"x": b"y"}]
    assert list(elements(b"x=" + b"y" * MAX_BYTES + b"," + last)) == [{b"for": b"b"}]
    assert list(elements(b"x=" + b"y" * MAX_BYTES)) == []
    parameters = [b"x%d=y" % number for number in range(MAX_PARAMETERS + 1)]
    assert len(list(elements(b";".join(parameters[1:])))) == 1
    assert list(elements(b";".join(parameters))) == []


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (forwarded("for=192.0.2.1;proto=https;host=a.example"), Forwarded(CLIENT, "https", b"a.example")),
        (forwarded('for="192.0.2.1:99"'), Forwarded(("192.0.2.1", 99), "http")),
        (forwarded("for=192.0.2.1;proto=https, for=127.0.0.1;proto=http"), Forwarded(CLIENT, "https")),
        (forwarded("for=192.0.2.1;proto=https", 'for="[::1]";proto=http'), Forwarded(CLIENT, "https")),
        (forwarded("for=198.51.100.9;proto=https, for=192.0.2.1"), Forwarded(CLIENT, "http")),
        (forwarded("for=198.51.100.9, for=_hidden;proto=https"), Forwarded(PROXY, "https")),
        (forwarded("for=198.51.100.9, for=unknown, for=::1"), Forwarded(("::1", 0), "http")),
        (forwarded("proto=https"), Forwarded(PROXY, "https")),
        (forwarded('for=192.0.2.1;host="a b"'), Forwarded(CLIENT, "http")),
        (forwarded("for=198.51.100.9;proto=https, garbage"), Forwarded(PROXY, "http")),
        (forwarded(""), Forwarded(PROXY, "http")),
        (x_for("192.0.2.1"), Forwarded(PROXY, "http")),
        ([*x_for("198.51.100.9"), *forwarded("for=192.0.2.1")], Forwarded(CLIENT, "http")),
    ],
)
def test_what_the_forwarded_field_says(headers: list[Header], expected: Forwarded) -> None:
    assert RFC_7239.resolve(PROXY, "http", headers) == expected


@pytest.mark.parametrize("name", ["for", "proto", "host", "port", "prefix"])
def test_any_x_forwarded_field_makes_forwarded_count_for_nothing(name: str) -> None:
    headers = [*forwarded("for=192.0.2.1;proto=https;host=a.example"), (f"x-forwarded-{name}".encode(), b"?")]
    assert FULL.resolve(PROXY, "http", headers) == Forwarded(PROXY, "http")
    assert FULL.resolve(PROXY, "http", headers[:1]) == Forwarded(CLIENT, "https", b"a.example")


# -- what a client sends cannot change what the proxy appends ------------------------------------------------------

anything = st.one_of(st.binary(max_size=60), st.text('";=, \\\tfor[]:.1', max_size=40).map(str.encode))


@given(anything, st.booleans())
@example(b'for="', True)
@example(b'host="a, for=1.1.1.1', True)
@example(b"for=1.1.1.1;host=\\", True)
def test_a_client_cannot_hide_from_its_proxy(sent: bytes, one_line: bool) -> None:
    own, own_element = b"192.0.2.1", b'for=192.0.2.1;proto=https;host="a.example"'
    for name, added in ((b"x-forwarded-for", own), (b"forwarded", own_element)):
        lines = [(name, sent + b", " + added)] if one_line else [(name, sent), (name, added)]
        assert client(lines) == CLIENT
    assert RFC_7239.resolve(PROXY, "http", lines) == Forwarded(CLIENT, "https", b"a.example")


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40))
@example("a,for=6.6.6.6;b=")
@example('a,for=6.6.6.6;b="')
@example('a\\",for="6.6.6.6')
def test_a_host_that_the_proxy_quotes_cannot_become_an_element(host: str) -> None:
    quoted = host.replace("\\", "\\\\").replace('"', '\\"')
    assert client(forwarded(f'for=192.0.2.1;host="{quoted}"')) == CLIENT
    assert client(forwarded(f'host="{quoted}";for=192.0.2.1')) == CLIENT


@given(st.lists(st.tuples(st.sampled_from(["x-forwarded-" + each for each in ("for", "proto", "host", "port", "prefix")]
                                          + ["forwarded", "host"]), anything)), st.booleans())  # fmt: skip
def test_whatever_the_fields_hold_the_answer_is_well_formed(fields: list[tuple[str, bytes]], websocket: bool) -> None:
    headers = [(name.encode(), value) for name, value in fields]
    schemes = ("ws", "wss") if websocket else ("http", "https")
    for proxies in (LOOPBACK, ALL, FULL, RFC_7239):
        answer = proxies.resolve(None, schemes[0], headers)
        assert answer.scheme in schemes
        assert answer.client is None or str(ip_address(answer.client[0])) == answer.client[0]
        assert answer.prefix is None or (answer.prefix[0] == "/" and not answer.prefix.startswith("//"))
        assert answer.host is None or b" " not in answer.host
