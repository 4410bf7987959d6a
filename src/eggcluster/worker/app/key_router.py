"""Finds the workers to which the keys of requests belong, and sends connections on their way. Runs in the app workers.

The cluster's own cookie needs no place in the table: it names a worker's part of it, and is signed with the table's
secret, so that no client can choose a worker.
"""

import errno
import hashlib
import hmac
import socket
from collections.abc import Sequence

from eggcluster.http.head import Header, RequestHead
from eggcluster.ipc.key_table import OwnKeys
from eggcluster.kernel.connection_handover import pass_on
from eggcluster.model.steering.key_home import NO_DIGEST, NO_PART, Destination, Part, destination
from eggcluster.model.steering.key_source import OWN_COOKIE, KeySource

MOST_NAMES = 1024  # of response fields that are remembered; an application has some dozen
_SIGNATURE_BYTES = 16


class TableRouter:
    """A `KeyRouter` over the key table. `sources` are in the order of their rank. Each request is served where it is
    until `exit` is set, the socket to the master.

    The first connection to a worker goes to the master, which answers with the direct socket to that worker. Later ones
    go there at once. If that cannot be, they go to the master.
    """

    def __init__(self, own: OwnKeys, sources: Sequence[KeySource]) -> None:
        self.own = own
        self._table = own.table
        self._sources = sources
        self._marks = [source.name.lower() for source in sources]  # a head without any of them has no key
        self.exit: socket.socket | None = None
        self._direct: dict[Part, socket.socket] = {}
        self._sets_cookie = any(source.is_own for source in sources)
        self._cookie = self._signed(own.part)
        self._is_leaving = False
        self._gives: dict[bytes, bool] = {}  # by names of response fields: whether a field of that name may give a key

    # -- requests ------------------------------------------------------------------------------------------

    def destination(self, head: RequestHead) -> Destination | None:
        """Return where the request belongs; see `KeyRouter`."""
        found = [(source, source.key_of(head.target, head.headers)) for source in self._sources]
        return self._destination([(source, key) for source, key in found if key is not None])

    def look(self, raw: bytes) -> Destination | None:
        """Return where the request with this head belongs; see `KeyRouter`."""
        lowered = raw.lower()
        for mark in self._marks:
            if mark in lowered:
                found = [(source, source.key_in(raw, lowered)) for source in self._sources]
                return self._destination([(source, key) for source, key in found if key is not None])
        return None

    def _destination(self, keys: Sequence[tuple[KeySource, bytes]]) -> Destination | None:
        if self.exit is None or not keys:
            return None
        digests, named = [], {}
        for source, key in keys:
            if not source.is_own:
                digests.append(self._table.digest(key))
            elif (part := self._named_by(key)) != NO_PART:
                digests.append(key)
                named[key] = part
        find = (lambda each: named.get(each) or self._find(each)) if named else self._find
        return destination(digests, find, self._table.homes, self.own.part)

    def is_here(self, destination: Destination) -> bool:
        """Return whether a request that was handed over belongs to this worker; see `KeyRouter`."""
        if destination.digest != NO_DIGEST:
            self.own.used(destination.digest)
        return destination.part == self.own.part

    def _find(self, digest: bytes) -> Part:
        part = self._table.find(digest)
        if part == self.own.part:
            self.own.used(digest)
        return part

    def hand_over(self, fd: int, destination: Destination, request: bytes) -> bool:
        """Hand a connection over; see `KeyRouter`."""
        if self.exit is None:
            raise OSError(errno.EPIPE, "this worker has no way to others")
        message = destination.pack() + request
        part = destination.part
        gone = self._send(part, fd, message) if part in self._direct else None
        if gone is None:
            gone = pass_on(self.exit, fd, request=message)
        if gone:
            self._table.count_handover(self.own.part)
        return gone

    def _send(self, part: Part, fd: int, message: bytes) -> bool | None:
        """Hand a connection over to the worker with this part. Return False if there is no room at the moment, None if
        the worker is gone."""
        try:
            return pass_on(self._direct[part], fd, request=message)
        except OSError:
            self._direct.pop(part).close()
            return None

    def add_direct(self, name: bytes, sock: socket.socket) -> None:
        """Hand over to the worker of this name by its direct socket from now on. Those to workers that are gone are
        closed."""
        for part in [each for each in self._direct if not self._table.is_live(each)]:
            self._direct.pop(part).close()
        part = Part.unpack(name)
        if part in self._direct or not self._table.is_live(part):
            sock.close()
        else:
            self._direct[part] = sock

    def close(self) -> None:
        """Close the direct sockets; may be called again."""
        while self._direct:
            self._direct.popitem()[1].close()

    # -- responses -----------------------------------------------------------------------------------------

    def learn(self, head: RequestHead, scheme: str, headers: list[Header]) -> list[Header]:
        """Learn the keys that a response gives its client; see `KeyRouter`."""
        for name, _ in headers:
            if self._gives.get(name, name not in self._gives):
                self._learn_from(name, headers)
        if self._sets_cookie and not self._is_leaving and not self._is_named(head):
            headers = [*headers, (b"set-cookie", self._set_cookie(scheme))]
        return headers

    def _learn_from(self, name: bytes, headers: list[Header]) -> None:
        """Learn from a field that may give a key, and remember whether fields of that name may."""
        lowered = name.lower()
        if len(self._gives) < MOST_NAMES:
            self._gives[bytes(name)] = any(source.is_given_by(lowered) for source in self._sources)
        for source in self._sources:
            key = source.learned_from(headers) if source.is_given_by(lowered) else None
            if key is not None:
                self.own.learn(key)

    def close_to_new(self) -> None:
        """Give no more clients a cookie that names this worker: it is being closed."""
        self._is_leaving = True

    def leave(self) -> None:
        """Let other workers find no key here from now on."""
        self._table.leave(self.own.part)

    # -- the cluster's own cookie --------------------------------------------------------------------------

    def _is_named(self, head: RequestHead) -> bool:
        return any(each.key_of(head.target, head.headers) == self._cookie for each in self._sources if each.is_own)

    def _set_cookie(self, scheme: str) -> bytes:
        secure = b"; Secure" if scheme in ("https", "wss") else b""
        return OWN_COOKIE + b"=" + self._cookie + b"; Path=/; HttpOnly; SameSite=Lax" + secure

    def _signed(self, part: Part) -> bytes:
        name = b"%d.%d" % part
        signature = hashlib.blake2b(name, key=self._table.secret, digest_size=_SIGNATURE_BYTES, person=OWN_COOKIE)
        return name + b"." + signature.hexdigest().encode()

    def _named_by(self, cookie: bytes) -> Part:
        """Return the part of the living worker that the cookie names; NO_PART if it names none, or is not ours."""
        number, _, rest = cookie.partition(b".")
        incarnation = rest.partition(b".")[0]
        if not (number.isdigit() and incarnation.isdigit()) or len(cookie) > 64:
            return NO_PART
        part = Part(int(number), int(incarnation))
        is_ours = hmac.compare_digest(cookie, self._signed(part))
        return part if is_ours and self._table.is_live(part) else NO_PART
