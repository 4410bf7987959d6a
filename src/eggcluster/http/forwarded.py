"""Trusted proxies: what their header fields say about the client, and which of it counts. Pure; used in app workers.

A field counts only in a request whose peer is a trusted proxy. Then

- X-Forwarded-For is read from the right, where each proxy appends the address of its own peer. The first address that
  is no trusted proxy's is the client; if all are trusted, the leftmost is. Reading ends at an entry that is no address
  (`unknown`, `_hidden`, garbage), because no trusted proxy wrote what is left of it; the client is then the last
  address before it. At most 32 entries are read.
- of X-Forwarded-Proto, -Host, -Port and -Prefix the rightmost element counts: the proxy nearest to this server wrote it
  or let it pass. What is left of it may be the client's invention.
- Forwarded (RFC 7239) is read like X-Forwarded-For. Its `proto` and `host` are those of the element that names the
  client, which its proxy wrote at once.
- **Precedence:** where a request has any of the X-Forwarded fields, Forwarded is ignored as a whole. Proxies that know
  the X-Forwarded fields alone let a client's Forwarded pass; with precedence, it would let each client choose its
  address. A proxy that writes Forwarded alone lets the X-Forwarded fields pass: `only_forwarded` closes that hole.
- host and prefix count only if asked for, because proxies do not set their fields by default and so let those of the
  client pass: a link in a password mail would lead to the client's host. uvicorn, gunicorn and granian ignore them.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from eggcluster.http.forwarded_field import MAX_ELEMENTS, Element, elements
from eggcluster.http.ip_addresses import MAX_PORT, Address, IPAddress, parse_node, to_address
from eggcluster.wording import shown

# A Unix socket admits at most what 127.0.0.1 admits: processes of this machine, and of those only the ones that its
# file mode lets in. So it is trusted where loopback is; gunicorn always trusts it, uvicorn only with `*`.
DEFAULT = "127.0.0.1,::1,unix"
UNIX = "unix"  # in the option: the peer of a Unix socket, which has no address
ANY = "*"
MAX_CACHED = 1024  # addresses whose trust is remembered
MAX_HOST_BYTES = 261  # RFC 1035: a name has at most 255 bytes; a colon and five digits

Header = tuple[bytes, bytes]
Network = IPv4Network | IPv6Network

_FOR, _PROTO, _HOST, _PORT, _PREFIX = (
    b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix",
)  # fmt: skip
_FORWARDED = b"forwarded"
_X_FIELDS = frozenset((_FOR, _PROTO, _HOST, _PORT, _PREFIX))
_FIELDS = _X_FIELDS | {_FORWARDED}

_SECURE = {b"http": False, b"https": True, b"ws": False, b"wss": True}
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_is_host = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?").fullmatch
# No escapes, no dot segments, no empty ones: `//host` as the beginning of a path is another host's (RFC 3986, 4.2).
_is_prefix = re.compile(rb"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~!$&'()*+;=:@-]+)+/?").fullmatch


def has_fields(headers: Sequence[Header]) -> bool:
    """Return whether a request has a field that a proxy may have set: only then it need be resolved."""
    for name, _ in headers:  # noqa: SIM110  # a generator takes three times as long
        if name in _FIELDS:
            return True
    return False


class Forwarded(NamedTuple):
    """What counts for a request. `client` is None for the peer of a Unix socket. `host` and `prefix` are None where
    nothing replaces the request's own Host and the server's own root path; a prefix has no slash at its end."""

    client: Address | None
    scheme: str
    host: bytes | None = None
    prefix: str | None = None


class TrustedProxies:
    """The proxies whose fields are believed."""

    def __init__(
        self,
        networks: Iterable[Network],
        *,
        unix: bool = False,
        everything: bool = False,
        only_forwarded: bool = False,
        host: bool = False,
        prefix: bool = False,
    ) -> None:
        """`unix`: the peers of Unix sockets are trusted; `everything`: all peers are. `only_forwarded`: the X-Forwarded
        fields are never read. `host`, `prefix`: believe what the fields say about them, too."""
        every = tuple(networks)
        self._addresses = {each.network_address for each in every if each.num_addresses == 1}
        self._networks = tuple(each for each in every if each.num_addresses > 1)
        self._everything, self._unix = everything, unix or everything
        self._only_forwarded, self._host, self._prefix = only_forwarded, host, prefix
        self._is_trusted = lru_cache(maxsize=MAX_CACHED)(self._look_up)

    @classmethod
    def parse(
        cls, text: str, *, only_forwarded: bool = False, host: bool = False, prefix: bool = False
    ) -> "TrustedProxies":
        """Read a list such as `127.0.0.1, 10.0.0.0/8, ::1, unix, *`; an empty one trusts no peer.

        ValueError with one line that names the first bad item.
        """
        items = [item for each in text.split(",") if (item := each.strip())]
        return cls(
            [_network(item) for item in items if item not in (UNIX, ANY)],
            unix=UNIX in items,
            everything=ANY in items,
            only_forwarded=only_forwarded,
            host=host,
            prefix=prefix,
        )

    def trusts(self, host: str | None) -> bool:
        """Return whether a peer is trusted; None is the peer of a Unix socket. `::ffff:127.0.0.1` is 127.0.0.1."""
        return self._unix if host is None else self._is_trusted(host)

    def resolve(self, peer: Address | None, scheme: str, headers: Sequence[Header]) -> Forwarded:
        """Return what counts for a request over a connection from `peer` with `scheme` (http, https, ws, wss).

        The names of `headers` are in lower case. The answer's scheme is of the kind of `scheme`: a WebSocket's stays a
        WebSocket's. A field that does not say anything valid changes nothing.
        """
        if not (self._unix if peer is None else self._is_trusted(peer[0])):
            return Forwarded(peer, scheme)
        lines = [header for header in headers if header[0] in _FIELDS]
        if not lines:
            return Forwarded(peer, scheme)
        fields = _joined(lines)
        if self._only_forwarded or fields.keys() == {_FORWARDED}:
            return self._by_forwarded(peer, scheme, fields.get(_FORWARDED, b""))
        return self._by_x_fields(peer, scheme, fields)

    def _by_x_fields(self, peer: Address | None, scheme: str, fields: dict[bytes, bytes]) -> Forwarded:
        client = peer
        for node in reversed(fields.get(_FOR, b"").rsplit(b",", MAX_ELEMENTS)[-MAX_ELEMENTS:]):
            node = node.strip(b" \t")
            if not node:
                continue  # RFC 9110, 5.6.1: empty elements do not count
            address = parse_node(node)
            client = address or client
            if address is None or not self.trusts(address[0]):
                break
        scheme = _scheme(scheme, _last(fields, _PROTO))
        host = _with_port(_host(_last(fields, _HOST)), _last(fields, _PORT), scheme) if self._host else None
        return Forwarded(client, scheme, host, _path_prefix(_last(fields, _PREFIX)) if self._prefix else None)

    def _by_forwarded(self, peer: Address | None, scheme: str, value: bytes) -> Forwarded:
        client = peer
        chosen: Element = {}
        for chosen in elements(value):
            address = parse_node(chosen.get(b"for", b""))
            client = address or client
            if address is None or not self.trusts(address[0]):
                break
        scheme = _scheme(scheme, chosen.get(b"proto", b""))
        return Forwarded(client, scheme, _host(chosen.get(b"host", b"")) if self._host else None)

    def _look_up(self, host: str) -> bool:
        address = to_address(host)
        return self._everything or (address is not None and self._holds(address))

    def _holds(self, address: IPAddress) -> bool:
        return address in self._addresses or any(address in network for network in self._networks)


def _network(item: str) -> Network:
    """Return the network that an item of the option is; one address is a network of its own."""
    try:
        first, network = ip_address(item.partition("/")[0]), ip_network(item, strict=False)
    except ValueError:
        message = f'{shown(item)} is not a proxy: write an IP address, a network such as 10.0.0.0/8, "unix" or "*"'
        raise ValueError(message) from None
    if "%" in item:
        raise ValueError(f"{shown(item)} has a zone, which is not compared: write {shown(item.partition('%')[0])}")
    if first != network.network_address:
        raise ValueError(f"{shown(item)} is not a network, because it has host bits set: write {network}")
    mapped = network.network_address.ipv4_mapped if network.version == 6 and network.prefixlen >= 96 else None
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - 96))


def _joined(lines: Iterable[Header]) -> dict[bytes, bytes]:
    """Return the value of each field; that of several lines is a list in their order (RFC 9110, 5.3)."""
    fields: dict[bytes, bytes] = {}
    for name, value in lines:
        fields[name] = fields[name] + b"," + value if name in fields else value
    return fields


def _last(fields: dict[bytes, bytes], name: bytes) -> bytes:
    """Return the rightmost element of a field that is a list; empty if there is none."""
    return fields.get(name, b"").rstrip(b" \t,").rpartition(b",")[2].strip(b" \t")


def _scheme(scheme: str, proto: bytes) -> str:
    """Return what `proto` makes of the connection's scheme."""
    secure = _SECURE.get(proto.lower())
    if secure is None:
        return scheme
    return ("wss" if secure else "ws") if scheme in ("ws", "wss") else ("https" if secure else "http")


def _host(value: bytes) -> bytes | None:
    return value if len(value) <= MAX_HOST_BYTES and _is_host(value) else None


def _with_port(host: bytes | None, port: bytes, scheme: str) -> bytes | None:
    """Return `host` with the forwarded port, if it has none itself and the scheme's default is another one."""
    if host is None or _has_port(host) or not port.isdigit() or len(port) > 5:
        return host
    number = int(port)
    return host if number in (0, _DEFAULT_PORTS[scheme]) or number > MAX_PORT else b"%b:%d" % (host, number)


def _has_port(host: bytes) -> bool:
    return b":" in host.rpartition(b"]")[2]


def _path_prefix(value: bytes) -> str | None:
    return value.decode("ascii").rstrip("/") if _is_prefix(value) else None
