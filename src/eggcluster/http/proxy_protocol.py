"""The PROXY protocol, versions 1 and 2: a header before the first request that names the client. Pure; in app workers.

The rules are those of HAProxy's doc/proxy-protocol.txt; its sections are cited. The receiver has to know beforehand
whether a header comes (section 2), because whoever connects could name any address: make a parser for connections from
trusted proxies alone, and close those that send no valid header.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from eggcluster.errors import EggclusterError
from eggcluster.http.ip_addresses import MAX_PORT, Address, IPAddress, canonical

MAX_V1_BYTES = 107  # section 2.1, with the CRLF
MAX_V2_BYTES = 16 * 1024  # an address needs 232 at most; a client's certificate in a TLV needs one to four KiB
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FIXED_V2_BYTES = 16

_V1_STARTS = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN")
_V1_FAMILIES: dict[bytes, type[IPv4Address] | type[IPv6Address]] = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}
_LOCAL, _PROXY = 0x20, 0x21  # version 2 and the command
# Family and transport (section 2.2) -> the format of the addresses and ports. Those without one are valid, and mean
# that the addresses are not to be used: section 2.2 asks for that where a receiver cannot use a combination.
_FORMATS = {0x11: "!4s4sHH", 0x21: "!16s16sHH", 0x31: "!108s108s", 0x00: "", 0x12: "", 0x22: "", 0x32: ""}
_TLS_TLV = 0x20
_CLIENT_USED_TLS = 0x01


class ProxyProtocolError(EggclusterError, ValueError):
    """The peer sent no valid PROXY header: its fault, or the proxy does not send one at all. Close the connection."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The ends of the client's connection to the proxy.

    Both are None for a Unix socket of the proxy's: such a client is not a peer of this server's own Unix sockets, and
    the word `unix` of the trusted proxies is not meant for it. `is_tls`: the client spoke TLS with the proxy, so the
    requests' scheme is https (or wss); only version 2 can tell.
    """

    client: Address | None
    server: Address | None
    is_tls: bool = False


@dataclass(frozen=True, slots=True)
class Local:
    """The proxy names no address (LOCAL, UNKNOWN, UNSPEC, datagrams): those of the connection itself count. Health
    checks of the proxy come that way."""


class ProxyHeader(NamedTuple):
    """A complete header, and the bytes after it: they belong to the first request, or to the TLS handshake."""

    source: Addresses | Local
    rest: bytes


class ProxyHeaderParser:
    """Parses the header at the beginning of one connection."""

    def __init__(self, max_v2_bytes: int = MAX_V2_BYTES) -> None:
        self._max_v2_bytes = max_v2_bytes
        self._received = b""
        self._is_done = False

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take the next bytes of the connection; return the header once it is complete, None before.

        ProxyProtocolError as soon as the bytes cannot become a valid header. After either, the parser is used up.
        """
        if self._is_done:
            raise AssertionError("BUG: a connection has one PROXY header")
        self._received += data
        self._is_done = True  # an error ends it, too
        header = self._parse(self._received)
        self._is_done = header is not None
        return header

    def _parse(self, data: bytes) -> ProxyHeader | None:
        if SIGNATURE.startswith(data[: len(SIGNATURE)]):
            return _parse_v2(data, self._max_v2_bytes)
        if any(start.startswith(data[: len(start)]) for start in _V1_STARTS):
            return _parse_v1(data)
        raise ProxyProtocolError("the connection does not begin with a PROXY header")


# -- version 1 (section 2.1) -----------------------------------------------------------------------------------


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\n", 0, MAX_V1_BYTES) + 1
    if not end:
        if len(data) >= MAX_V1_BYTES:
            raise ProxyProtocolError(f"the PROXY line is longer than {MAX_V1_BYTES} bytes")
        return None
    line, ending = data[: end - 2], data[end - 2 : end]
    if ending != b"\r\n" or b"\r" in line:
        raise ProxyProtocolError("the PROXY line does not end with CRLF")
    return ProxyHeader(_parse_line(line), data[end:])


def _parse_line(line: bytes) -> Addresses | Local:
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return Local()  # what follows is not looked at
    family = _V1_FAMILIES.get(words[1])
    if family is None or len(words) != 6:
        raise ProxyProtocolError("the PROXY line does not have the form PROXY TCP4 SOURCE DESTINATION PORT PORT")
    client, server = (_parse_host(family, word) for word in words[2:4])
    client_port, server_port = (_parse_port(word) for word in words[4:])
    return Addresses((client, client_port), (server, server_port))


def _parse_host(family: type[IPv4Address] | type[IPv6Address], word: bytes) -> str:
    try:
        if b"%" not in word:  # a zone, which IPv6Address would accept
            return canonical(family(word.decode("ascii")))
    except ValueError:
        pass
    raise ProxyProtocolError(f"the PROXY line has an address that is not valid: {word!r}")


def _parse_port(word: bytes) -> int:
    if word.isdigit() and len(word) <= 5 and str(int(word)).encode() == word and int(word) <= MAX_PORT:
        return int(word)
    raise ProxyProtocolError(f"the PROXY line has a port that is not valid: {word!r}")


# -- version 2 (section 2.2) -----------------------------------------------------------------------------------


def _parse_v2(data: bytes, max_bytes: int) -> ProxyHeader | None:
    size = len(data)
    if size > 12 and data[12] not in (_LOCAL, _PROXY):
        raise ProxyProtocolError(f"the PROXY header has an unknown version and command: 0x{data[12]:02x}")
    if size > 13 and data[12] == _PROXY and data[13] not in _FORMATS:
        raise ProxyProtocolError(f"the PROXY header has an unknown family and transport: 0x{data[13]:02x}")
    if size < FIXED_V2_BYTES:
        return None
    end = FIXED_V2_BYTES + int.from_bytes(data[14:16], "big")
    if end > max_bytes:
        raise ProxyProtocolError(f"the PROXY header has {end} bytes, more than {max_bytes}")
    layout = _FORMATS[data[13]] if data[12] == _PROXY else ""
    if end < FIXED_V2_BYTES + struct.calcsize(layout):
        raise ProxyProtocolError("the PROXY header is too short for its addresses")
    if size < end:
        return None
    return ProxyHeader(_parse_block(data[FIXED_V2_BYTES:end], layout), data[end:])


def _parse_block(block: bytes, layout: str) -> Addresses | Local:
    """Return what the bytes after the first sixteen say; without a layout they are skipped."""
    if not layout:
        return Local()
    fields = struct.unpack_from(layout, block)
    tlvs = list(_tlvs(block[struct.calcsize(layout) :]))  # all of them are checked
    is_tls = any(kind == _TLS_TLV and _is_tls(value) for kind, value in tlvs)
    if len(fields) == 2:
        return Addresses(None, None, is_tls)
    client, server, client_port, server_port = fields
    return Addresses((_host(client), client_port), (_host(server), server_port), is_tls)


def _host(packed: bytes) -> str:
    address: IPAddress = IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
    return canonical(address)


def _tlvs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and value of each TLV. A checksum (CRC32C) is among those that are skipped, as section 2.2.3
    allows a receiver that has none; TCP has its own."""
    position = 0
    while position < len(data):
        end = position + 3 + int.from_bytes(data[position + 1 : position + 3], "big")
        if position + 3 > len(data) or end > len(data):
            raise ProxyProtocolError("the PROXY header ends within a TLV")
        yield data[position], data[position + 3 : end]
        position = end


def _is_tls(value: bytes) -> bool:
    """Return whether the client connected over TLS (section 2.2.6): a bit field, then what was verified."""
    if len(value) < 5:
        raise ProxyProtocolError("the PROXY header has a TLS TLV that is too short")
    return bool(value[0] & _CLIENT_USED_TLS)
