"""The PROXY protocol: complete, incomplete and bad headers of both versions, cut anywhere."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.errors import EggclusterError
from eggcluster.http.proxy_protocol import (
    MAX_V1_BYTES,
    MAX_V2_BYTES,
    SIGNATURE,
    Addresses,
    Local,
    ProxyHeader,
    ProxyHeaderParser,
    ProxyProtocolError,
)

REST = b"GET / HTTP/1.1\r\n"
V4 = Addresses(("192.0.2.1", 56324), ("198.51.100.1", 443))
V6 = Addresses(("2001:db8::1", 1), ("2001:db8::2", 65535))
UNIX = Addresses(None, None)
V4_BLOCK = bytes([192, 0, 2, 1, 198, 51, 100, 1]) + struct.pack("!HH", 56324, 443)
V6_BLOCK = IPv6Address("2001:db8::1").packed + IPv6Address("2001:db8::2").packed + struct.pack("!HH", 1, 65535)
UNIX_BLOCK = b"/run/client".ljust(108, b"\0") + b"/run/proxy".ljust(108, b"\0")


def v2(block: bytes = V4_BLOCK, *, family: int = 0x11, command: int = 0x21) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(block)) + block


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def tls(client: int) -> bytes:
    return tlv(0x20, bytes([client]) + bytes(4) + tlv(0x21, b"TLSv1.3"))


GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", V4),
    (b"PROXY TCP6 2001:DB8:0::1 2001:db8::2 1 65535\r\n", V6),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.1 56324 443\r\n", V4),
    (b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", Addresses(("255.255.255.255", 65535), ("0.0.0.0", 0))),
    (b"PROXY UNKNOWN\r\n", Local()),
    (b"PROXY UNKNOWN ffff::1 what ever\r\n", Local()),
    (b"PROXY UNKNOWN ".ljust(MAX_V1_BYTES - 2, b"x") + b"\r\n", Local()),
    (v2(), V4),
    (v2(V6_BLOCK, family=0x21), V6),
    (v2(UNIX_BLOCK, family=0x31), UNIX),
    (
        v2(IPv6Address("::ffff:192.0.2.1").packed * 2 + bytes(4), family=0x21),
        Addresses(("192.0.2.1", 0), ("192.0.2.1", 0)),
    ),
    (v2(V4_BLOCK + tlv(0x04, b"padding")), V4),
    (v2(V4_BLOCK + tlv(0x04, b"")), V4),
    (v2(V4_BLOCK + tls(0x01)), Addresses(V4.client, V4.server, is_tls=True)),
    (v2(V4_BLOCK + tlv(0x02, b"a.example") + tls(0x07)), Addresses(V4.client, V4.server, is_tls=True)),
    (v2(UNIX_BLOCK + tls(0x01), family=0x31), Addresses(None, None, is_tls=True)),
    (v2(V4_BLOCK + tls(0x00)), V4),
    (v2(b"", family=0x00), Local()),
    (v2(b"anything", family=0x00), Local()),
    (v2(V4_BLOCK, family=0x12), Local()),  # datagrams
    (v2(V6_BLOCK, family=0x22), Local()),
    (v2(UNIX_BLOCK, family=0x32), Local()),
    (v2(b"", family=0x00, command=0x20), Local()),
    (v2(b"skipped", family=0xFF, command=0x20), Local()),  # the family of LOCAL is ignored
    (v2(V4_BLOCK + tlv(0xE0, bytes(MAX_V2_BYTES - 16 - 12 - 3))), V4),
]

# What comes, and the number of bytes after which it is rejected.
BAD = [
    (b"GET / HTTP/1.1\r\n", 1),
    (b"\x16\x03\x01", 1),
    (b"PROXX", 5),
    (b"proxy TCP4", 1),
    (b"PROXY  TCP4", 7),
    (b"PROXY TCP5", 10),
    (b"PROXY UDP4", 8),
    (b"PROXY TCP4\t", 11),
    (b"PROXY TCP4\r\n", 11),
    (b"PROXY UNKNOWNX\r\n", 16),
    (b"PROXY UNKNOWNX 192.0.2.1 192.0.2.2 1 2\r\n", 40),
    (b"PROXY UNKNOWN\n", 14),
    (b"PROXY UNKNOWN\rx\r\n", 17),
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n", 38),
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n", 37),
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n", 41),
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n", 40),
    (b"PROXY TCP4 192.0.2.1  198.51.100.1 1 2\r\n", 40),
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n", 40),
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n", 43),
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 -2\r\n", 40),
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 \r\n", 38),
    (b"PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n", 40),
    (b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n", 41),
    (b"PROXY TCP4 ::1 ::1 1 2\r\n", 24),
    (b"PROXY TCP6 192.0.2.1 192.0.2.1 1 2\r\n", 36),
    (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", 33),
    (b"PROXY TCP4 \xff\xff \xff 1 2\r\n", 21),
    (b"PROXY UNKNOWN ".ljust(MAX_V1_BYTES + 9, b"x"), MAX_V1_BYTES),
    (b"PROXY UNKNOWN ".ljust(MAX_V1_BYTES - 1, b"x") + b"\r\n", MAX_V1_BYTES),
    (b"\r\n\r\n\0\r\nQUIT\r", 12),
    (SIGNATURE + b"\x11", 13),  # version 1
    (SIGNATURE + b"\x22", 13),  # an unknown command
    (SIGNATURE + b"\x21\x41", 14),  # an unknown family
    (SIGNATURE + b"\x21\x13", 14),  # an unknown transport
    (SIGNATURE + b"\x21\x10", 14),  # a combination that section 2.2 does not list
    (SIGNATURE + b"\x21\x11\0\x0b", 16),  # too short for IPv4
    (SIGNATURE + b"\x21\x21\0\x23", 16),
    (SIGNATURE + b"\x21\x31\0\xd7", 16),
    (SIGNATURE + b"\x21\x11\xff\xff", 16),  # more than the bound
    (v2(V4_BLOCK + b"\x04"), 29),
    (v2(V4_BLOCK + b"\x04\0"), 30),
    (v2(V4_BLOCK + b"\x04\0\x02x"), 32),
    (v2(V4_BLOCK + tlv(0x20, bytes(4))), 35),
    (v2(V4_BLOCK + tls(0x01) + b"\x04"), len(v2(V4_BLOCK + tls(0x01))) + 1),
]


def parse(*chunks: bytes) -> ProxyHeader | None:
    parser = ProxyHeaderParser()
    found = None
    for chunk in chunks:
        found = parser.feed(chunk)
    return found


@pytest.mark.parametrize(("data", "source"), GOOD)
def test_a_complete_header_and_what_follows_it(data: bytes, source: Addresses | Local) -> None:
    assert parse(data) == ProxyHeader(source, b"")
    assert parse(data + REST) == ProxyHeader(source, REST)
    assert parse(data + data) == ProxyHeader(source, data)


@pytest.mark.parametrize(("data", "source"), [(data, source) for data, source in GOOD if len(data) < 300])
def test_a_header_may_come_byte_by_byte(data: bytes, source: Addresses | Local) -> None:
    parser = ProxyHeaderParser()
    for at in range(len(data) - 1):
        assert parser.feed(data[at : at + 1]) is None
    assert parser.feed(data[-1:] + REST) == ProxyHeader(source, REST)


@pytest.mark.parametrize(("data", "size"), BAD)
def test_a_bad_header_is_rejected_at_once(data: bytes, size: int) -> None:
    with pytest.raises(ProxyProtocolError):
        parse(data)
    assert parse(data[: size - 1]) is None
    with pytest.raises(ProxyProtocolError) as caught:
        parse(*(data[at : at + 1] for at in range(size)))
    assert isinstance(caught.value, EggclusterError)
    assert "\n" not in str(caught.value)


def test_the_bound_of_version_2_can_be_set() -> None:
    assert ProxyHeaderParser(max_v2_bytes=28).feed(v2()) == ProxyHeader(V4, b"")
    with pytest.raises(ProxyProtocolError, match="28 bytes, more than 27"):
        ProxyHeaderParser(max_v2_bytes=27).feed(v2()[:16])


def test_a_parser_is_used_up_by_its_header_and_by_an_error() -> None:
    parser = ProxyHeaderParser()
    assert parser.feed(b"") is None
    assert parser.feed(v2()) is not None
    with pytest.raises(AssertionError, match="BUG"):
        parser.feed(b"more")
    failed = ProxyHeaderParser()
    with pytest.raises(ProxyProtocolError):
        failed.feed(b"GET")
    with pytest.raises(AssertionError, match="BUG"):
        failed.feed(b"more")


ports = st.integers(0, 65535)
v4_ends = st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4), ports, ports)
v6_ends = st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6), ports, ports)
Ends = tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address, int, int]


@given(st.one_of(v4_ends, v6_ends), st.integers(0, 120))
def test_both_versions_say_the_same_wherever_they_are_cut(ends: Ends, cut: int) -> None:
    client, server, client_port, server_port = ends
    line = f"PROXY TCP{client.version} {client} {server} {client_port} {server_port}\r\n".encode()
    block = client.packed + server.packed + struct.pack("!HH", client_port, server_port)
    header = v2(block, family=0x11 if client.version == 4 else 0x21)
    found = parse(line[: min(cut, len(line) - 1)], line[min(cut, len(line) - 1) :] + REST)
    assert found == parse(header[: min(cut, len(header) - 1)], header[min(cut, len(header) - 1) :] + REST)
    assert found is not None
    assert isinstance(found.source, Addresses)
    assert found.source.client is not None
    assert found.source.client[1] == client_port


@given(st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 1", SIGNATURE, SIGNATURE + b"\x21\x11\0"]),
       st.binary(max_size=120), st.integers(0, 140))  # fmt: skip
def test_any_bytes_are_a_header_or_the_beginning_of_one_or_an_error(start: bytes, data: bytes, cut: int) -> None:
    def outcome(*chunks: bytes) -> ProxyHeader | str | None:
        parser = ProxyHeaderParser()
        try:
            whole = b""
            for chunk in chunks:
                whole += chunk
                found = parser.feed(chunk)
                if found is not None:
                    return ProxyHeader(found.source, (start + data)[len(whole) - len(found.rest) :])
        except ProxyProtocolError:
            return "error"
        return None

    everything = start + data
    assert outcome(everything) == outcome(everything[:cut], everything[cut:])
